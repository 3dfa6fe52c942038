"""From a manifest and the command's options to a job that can run here: everything resolved and checked first.

Apart from ``run`` so that whatever is wrong is said before anything is started, made or replaced.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchyard.api.errors import InvalidError
from batchyard.api.manifest import load
from batchyard.api.spec import BatchJob, Output
from batchyard.handler.load import find
from batchyard.local.state import STATE_FOLDER
from batchyard.storage.door import SCHEME, is_s3, split


class NotOnOneMachine(InvalidError):
    """The manifest names something that only a cluster, or a later version, has."""

    reason = "ManifestInvalid"


class PathInvalid(InvalidError):
    """A file or folder that the manifest names is not there, or not what it should be."""

    reason = "ManifestInvalid"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to a manifest. ``sets``: ``path=value``, later ones win."""

    manifest: Path
    resume: bool = False
    restart: bool = False
    workers: int | None = None
    output: str | None = None
    sets: tuple[str, ...] = ()
    state_dir: Path | None = None
    allow_empty: bool = False
    model_server: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A job, ready to be run on this machine. All paths are absolute.

    ``state``: the job's own folder. ``project``: where the handler runs. ``output``: a path or an ``s3://`` URL, None
    when results are not kept.
    ``notes``: one sentence each about what this machine does otherwise than a cluster.
    """

    job: BatchJob
    manifest: Path
    folder: Path
    state: Path
    project: Path
    output: str | None
    allow_empty: bool
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The job's name."""
        return self.job.metadata.name

    def fixed(self) -> dict[str, Any]:
        """Return what a resumed run must share with the first one, by field path."""
        given = self.job.spec.input.model_dump(mode="json", by_alias=True, exclude_none=True)
        fixed: dict[str, Any] = {f"spec.input.{name}": value for name, value in given.items()}
        fixed["spec.output.path"] = self.output
        return fixed


def make_plan(options: Options) -> Plan:
    """Read the manifest and check everything that can be checked without writing.

    Raises InvalidError (the manifest, a file it names, something that one machine does not have).
    """
    manifest = load(options.manifest, _sets(options))
    job = manifest.job
    _refuse_remote(job)
    state = (options.state_dir or manifest.folder / STATE_FOLDER).absolute() / job.metadata.name
    project = state / "project" if job.spec.handler.project else manifest.folder
    if job.spec.handler.path is not None and job.spec.handler.project is None:
        find(project, job.spec.handler.path)
    output = output_of(job.spec.output, manifest.folder)
    _check_output(output, state)
    return Plan(
        job=job,
        manifest=options.manifest.absolute(),
        folder=manifest.folder,
        state=state,
        project=project,
        output=output,
        allow_empty=options.allow_empty,
        notes=[f"{other} is not looked at on one machine" for other in manifest.ignored] + list(_notes(job)),
    )


def _sets(options: Options) -> list[str]:
    """Return ``--set`` with the short options after it, as what they are short for."""
    sets = list(options.sets)
    if options.workers is not None:
        sets.append(f"spec.workers={options.workers}")
    if options.output is not None:  # an option's path is relative to where the command runs, as everywhere
        path = options.output if "://" in options.output else str(Path(options.output).absolute())
        sets.append(f"spec.output.path={json.dumps(path)}")
    return sets


def _refuse_remote(job: BatchJob) -> None:
    handler, spec = job.spec.handler, job.spec
    if handler.project is not None and handler.project.kind not in ("inline", "s3"):
        raise NotOnOneMachine(
            f"spec.handler.project.{handler.project.kind}: found a project for a cluster, expected none on one "
            "machine: leave project out to use the manifest's folder, or write the files into project.inline."
        )
    if spec.output is not None and not spec.output.path.strip():
        raise PathInvalid("spec.output.path: found nothing, expected a folder.")


def output_of(output: Output | None, folder: Path) -> str | None:
    """Return where a manifest's results go, an absolute path or an ``s3://`` URL; ``folder``: the manifest's."""
    if output is None:
        return None
    if is_s3(output.path):
        bucket, prefix = split(output.path)
        return f"{SCHEME}{bucket}/{prefix}".rstrip("/")
    return str((folder / Path(output.path).expanduser()).absolute())


def _check_output(given: str | None, state: Path) -> None:
    if given is None or is_s3(given):
        return
    output = Path(given)
    if output.exists() and not output.is_dir():
        raise PathInvalid(f"spec.output.path: {output} is a file, expected a folder.")
    if output == state or state.is_relative_to(output / "parts") or output.is_relative_to(state):
        raise PathInvalid(f"spec.output.path: {output} is the job's own folder, expected another one.")


def _notes(job: BatchJob) -> Iterator[str]:
    """Yield one sentence about the fields that only a cluster reads, and one about variables without a value."""
    handler, spec = job.spec.handler, job.spec
    fields = (
        ("handler.image", handler.image),
        ("handler.servingImage", handler.serving_image),
        ("handler.envFrom", handler.env_from),
        ("handler.resources", handler.resources),
        ("handler.servingResources", handler.serving_resources),
        ("pod", spec.pod),
        ("suspend", spec.suspend),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished is not None),
    )
    ignored = [f"spec.{name}" for name, value in fields if value]
    if ignored:
        yield f"only a cluster reads {', '.join(ignored)}: ignored here"
    missing = [variable.name for variable in handler.env if variable.value_from is not None]
    if missing:
        yield f"valueFrom has no meaning here: set {', '.join(missing)} in the environment or in .env"
