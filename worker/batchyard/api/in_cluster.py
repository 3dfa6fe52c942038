"""What only a cluster refuses of a manifest; apart because one machine runs such a manifest, and no schema can tell.

Each pod starts from the API's object alone: the folder in which a manifest lies is on its writer's machine.
"""

from collections.abc import Iterator

from batchyard.api.errors import Problem
from batchyard.api.spec import BatchJob

_PLACE = (
    "an absolute path inside the pods or an s3:// URL "
    "(a relative path starts at the manifest's folder, which is on your machine)"
)
_PROJECT = "project with inline, configMap, image or s3 (the manifest's folder is on your machine)"


def problems(job: BatchJob) -> list[str]:
    """Return one sentence for each thing that a cluster can't do for this job, in the order of the manifest."""
    return [problem.sentence() for problem in _problems(job)]


def _problems(job: BatchJob) -> Iterator[Problem]:
    yield from _project(job)
    for where, place in _places(job):
        if not place.startswith(("/", "s3://")):
            yield Problem(where, repr(place), _PLACE)
    yield from _output(job)


def _project(job: BatchJob) -> Iterator[Problem]:
    handler = job.spec.handler
    if handler.project is not None:
        return
    if handler.path is not None:
        yield Problem("spec.handler.project", f"nothing beside path {handler.path!r}", _PROJECT)
    dependencies = handler.dependencies
    if dependencies is None:
        return
    files = (("pip", dependencies.pip), ("shell", dependencies.shell))
    for name, file in files:
        if isinstance(file, str):
            yield Problem(f"spec.handler.dependencies.{name}", f"the file {file!r} and no project", _PROJECT)


def _places(job: BatchJob) -> Iterator[tuple[str, str]]:
    """Yield every place that the pods read or write, with its field."""
    spec = job.spec
    models = spec.handler.models
    if models is not None:
        for name, place in (("path", models.path), ("dir", models.dir)):
            if place is not None:
                yield f"spec.handler.models.{name}", place
        for i, entry in enumerate(models.paths or []):
            yield f"spec.handler.models.paths[{i}].path", entry.path
    for name, files in (("files", spec.input.files), ("delimitedFiles", spec.input.delimited_files)):
        for i, path in enumerate(files.paths if files is not None else []):
            yield f"spec.input.{name}.paths[{i}]", path
    if spec.output is not None:
        yield "spec.output.path", spec.output.path
    if spec.storage is not None and spec.storage.work is not None:
        yield "spec.storage.work", spec.storage.work


def _output(job: BatchJob) -> Iterator[Problem]:
    """Refuse results and large batches that would be gone with the pod that wrote them."""
    spec = job.spec
    mounts = [str(mount.get("mountPath", "")) for mount in (spec.pod.volume_mounts if spec.pod else [])]
    places = {
        "spec.output.path": spec.output.path if spec.output else None,
        "spec.storage.work": spec.storage.work if spec.storage else None,
    }
    for where, place in places.items():
        if place is not None and place.startswith("/") and not any(_is_below(place, mount) for mount in mounts):
            yield Problem(
                where,
                f"{place!r}, which lies on no volume of spec.pod.volumeMounts",
                "an s3:// URL or a path below one of its mountPaths (what else a pod writes is gone with it)",
            )


def _is_below(place: str, mount: str) -> bool:
    folder = mount.rstrip("/")
    return bool(mount) and (place == folder or place.startswith(f"{folder}/"))
