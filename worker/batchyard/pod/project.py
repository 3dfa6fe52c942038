"""The handler's files in a pod, from wherever the job has them."""

from pathlib import Path

from batchyard.api.handler import Project
from batchyard.handler.load import find
from batchyard.pod.told import Told
from batchyard.projects import fetch
from batchyard.projects.files import ProjectInvalid, copy_config_map, write_inline


def ready_project(told: Told) -> Path:
    """Bring the project to this pod and return its folder; bringing it again is harmless.

    An empty folder when the job has no project. Raises InvalidError, StorageUnavailable.
    """
    project, target = told.job.spec.handler.project, told.places.project
    if project is None:
        target.mkdir(parents=True, exist_ok=True)
        return target
    if project.inline is not None:
        write_inline(project.inline, target)
    elif project.config_map is not None:
        copy_config_map(told.places.project_source, target, project.config_map)
    elif project.s3 is not None:
        fetch.ready_project(project.s3, target, told.store)
    elif project.image is not None:
        return _of_image(project)
    return target


def _of_image(project: Project) -> Path:
    folder = Path(project.image or "")
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing of that name"
        raise ProjectInvalid(
            f"spec.handler.project.image: found {found} in the handler's image at {folder}, expected the folder with "
            "the handler's files."
        )
    return folder


def check_handler(told: Told, project: Path) -> None:
    """Raise HandlerInvalid when the handler's file is not in the project."""
    path = told.job.spec.handler.path
    if path is not None:
        find(project, path)
