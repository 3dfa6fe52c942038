"""A project's folder from files that are at hand: those in the manifest, or those of a mounted ConfigMap.

The folder is made beside its place and renamed when it is whole: killed at any moment, there is the old one, none,
or the new one.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from batchyard.api.errors import InvalidError


class ProjectInvalid(InvalidError):
    """The files that ``handler.project`` names are not there, or can't be laid out as a folder."""

    reason = "HandlerInvalid"


def write_inline(files: Mapping[str, str], target: Path) -> None:
    """Make ``target`` hold these files and nothing else; the names are relative paths that stay inside.

    Raises ProjectInvalid when a name is a file and a folder, OSError when it can't be written.
    """
    names = {PurePosixPath(name) for name in files}
    for path in sorted(names):
        if folder := next((parent for parent in path.parents if parent in names), None):
            raise ProjectInvalid(
                f"spec.handler.project.inline: found {str(path)!r} and {str(folder)!r}, which is then a file and a "
                "folder; expected each name to be one of them."
            )

    def fill(fresh: Path) -> None:
        for name, text in files.items():
            file = fresh / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    _replace(target, fill)


def copy_config_map(mounted: Path, target: Path, name: str) -> None:
    """Make ``target`` hold the keys of a mounted ConfigMap as files, and not the links the mount is made of.

    Copied, because the mount follows later changes of the ConfigMap, and a job's code must not change under it.
    ``name``: the ConfigMap's, for messages. Raises ProjectInvalid when it holds no file, OSError.
    """
    found = mounted.iterdir() if mounted.is_dir() else ()
    keys = sorted(entry for entry in found if entry.is_file() and not entry.name.startswith(".."))
    if not keys:
        raise ProjectInvalid(
            f"spec.handler.project.configMap: {name} holds no files, expected the handler's files as its keys."
        )

    def fill(fresh: Path) -> None:
        fresh.mkdir(parents=True)
        for key in keys:
            shutil.copyfile(key, fresh / key.name)

    _replace(target, fill)


def _replace(target: Path, fill: Callable[[Path], None]) -> None:
    fresh = target.with_name(target.name + ".new")
    for folder in (fresh, target):  # an earlier run's may have a folder where a file is now
        if folder.exists():
            shutil.rmtree(folder)
    fill(fresh)
    fresh.rename(target)
