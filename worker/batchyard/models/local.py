"""Models on this machine's disk: reads the folders that ``models`` names and lays them out for a model server.

A server serves version folders only, so a model that is one SavedModel is linked as ``<links>/<name>/1``. Nothing
is copied; the links may be made again at any moment and by several runs at once.
"""

import os
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.api.errors import nearest
from batchyard.models.layout import (
    SAVED_MODEL_FILES,
    Layout,
    ModelInvalid,
    directory_layouts,
    model_layout,
    name_and_version,
)

_MAX_DEPTH = 6  # models.dir / model / version / variables / file, and one for a good hint
_MAX_ENTRIES = 50_000
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class NamedPath:
    """One entry of ``models.paths``, as the manifest gives it."""

    name: str
    path: str
    signature_key: str | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as a server is told of it.

    ``base_path`` holds one folder (or link) a version; ``versions`` are its numbers, lowest first, never empty.
    ``signature_key``: the manifest's ``signatureKey`` for this model.
    """

    name: str
    base_path: Path
    versions: tuple[int, ...]
    signature_key: str | None = None


def read_models(
    folder: Path,
    links: Path,
    *,
    path: str | None = None,
    paths: Sequence[NamedPath] = (),
    directory: str | None = None,
    signature_key: str | None = None,
) -> list[ServedModel]:
    """Return the models of a manifest's ``models``, in its order (``models.dir``: by name).

    ``folder`` is where relative paths start, ``links`` an own folder for the links. ``signature_key`` is the one of
    ``models`` itself; an entry of ``paths`` has its own first. A model of ``models.path`` takes its folder's name.

    Raises ModelInvalid: a folder is missing, unreadable or no model, or two models share a name.
    """
    if path is not None:
        root = _existing(folder, path, "models.path")
        name, version = name_and_version(str(root))
        layout = model_layout(_listing(root, path), path)
        return [_served(name, root, layout, links, signature_key, version)]
    if directory is not None:
        root = _existing(folder, directory, "models.dir")
        layouts = directory_layouts(_listing(root, directory), directory)
        return [_served(name, root / name, layout, links, signature_key) for name, layout in layouts.items()]
    return list(_read_paths(folder, links, paths, signature_key))


def _read_paths(
    folder: Path, links: Path, paths: Sequence[NamedPath], signature_key: str | None
) -> Iterable[ServedModel]:
    seen: dict[str, str] = {}
    for i, entry in enumerate(paths):
        if entry.name in seen:
            raise ModelInvalid(
                f"models.paths[{i}].name: found {entry.name!r} a second time (for {seen[entry.name]} and "
                f"{entry.path}), expected a name for each model."
            )
        seen[entry.name] = entry.path
        root = _existing(folder, entry.path, f"models.paths[{i}].path")
        layout = model_layout(_listing(root, entry.path), entry.path, f"models.paths[{i}].path")
        yield _served(entry.name, root, layout, links, entry.signature_key or signature_key)


def _served(
    name: str, root: Path, layout: Layout, links: Path, signature_key: str | None, version: int = 1
) -> ServedModel:
    if not _MODEL_NAME.fullmatch(name):
        raise ModelInvalid(
            f"the model in {root} would be named {name!r}, expected letters, digits, '_', '-' and '.'; "
            "give it a name in models.paths."
        )
    for number, below in layout.folders.items():
        _check_readable(root / below if below else root, name, number)
    if layout.is_versioned:
        return ServedModel(name, root, layout.versions, signature_key)
    _link_version(links / name, version, root)
    return ServedModel(name, links / name, (version,), signature_key)


def _link_version(base: Path, version: int, target: Path) -> None:
    """Make ``base`` hold one link ``<version>`` to ``target`` and no other; each step leaves a usable folder."""
    base.mkdir(parents=True, exist_ok=True)
    link = base / str(version)
    if not (link.is_symlink() and link.readlink() == target):
        fresh = base / f".{version}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target, target_is_directory=True)
        fresh.replace(link)
    for other in base.iterdir():
        if other.is_symlink() and other != link:
            other.unlink(missing_ok=True)


def _existing(folder: Path, path: str, where: str) -> Path:
    """Return the absolute folder ``path`` means. Raises ModelInvalid with the nearest sibling when there is none."""
    if "://" in path:
        raise ModelInvalid(
            f"{where}: found {path!r}, expected a folder of this machine; copy the model here for a local run."
        )
    root = Path(os.path.normpath(folder / Path(path).expanduser()))  # resolve() would lose the name of a link
    try:
        if root.is_dir():
            return root.absolute()
        if root.exists():
            raise ModelInvalid(f"{where}: {path} is a file, expected a folder that holds saved_model.pb.")
    except PermissionError as error:
        raise ModelInvalid(f"{where}: {path} can't be read: {error.strerror}.") from error
    raise ModelInvalid(f"{where}: there is no folder {path} (looked for {root}).{_nearest_sibling(root, path)}")


def _nearest_sibling(root: Path, path: str) -> str:
    """Return the hint for a missing folder: the nearest name where the path stops being there."""
    missing = root
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        siblings = [child.name for child in missing.parent.iterdir() if child.is_dir()]
    except OSError:
        return ""
    near = nearest(missing.name, siblings)
    if near is None:
        return ""
    rest = root.relative_to(missing)
    shown = os.path.relpath(missing.parent / near / rest, root) if not Path(path).is_absolute() else None
    return f" Did you mean {os.path.normpath(Path(path) / shown) if shown else missing.parent / near / rest}?"


def _listing(root: Path, shown: str) -> list[str]:
    """Return the files below ``root`` as relative paths, nearest first, links followed.

    Looks no deeper than a model can be, and not into a SavedModel's assets, which may be a whole vocabulary tree.
    """
    found: list[str] = []
    waiting: deque[tuple[Path, str, int]] = deque([(root, "", 0)])
    while waiting:
        at, prefix, depth = waiting.popleft()
        try:
            entries = sorted(os.scandir(at), key=lambda entry: entry.name)
        except OSError as error:
            raise ModelInvalid(f"{shown}/{prefix} can't be read: {error.strerror}.") from error
        visible = [entry for entry in entries if not entry.name.startswith((".", "_"))]
        is_saved_model = any(entry.name in SAVED_MODEL_FILES for entry in visible)
        if not visible and prefix:
            found.append(prefix)
        for entry in visible:
            if not _is_folder(entry):
                found.append(prefix + entry.name)
            elif depth + 1 < _MAX_DEPTH and not (is_saved_model and entry.name.startswith("assets")):
                waiting.append((Path(entry.path), f"{prefix}{entry.name}/", depth + 1))
        if len(found) + len(waiting) > _MAX_ENTRIES:
            raise ModelInvalid(
                f"{shown} holds more than {_MAX_ENTRIES:,} files, expected the folder of a model: "
                "saved_model.pb, or version folders that hold one each."
            )
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _check_readable(folder: Path, name: str, version: int) -> None:
    """Raise ModelInvalid when the graph of a SavedModel is empty or not readable: a server would say less."""
    for file in SAVED_MODEL_FILES:
        try:
            with (folder / file).open("rb") as opened:
                if opened.read(1):
                    return
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ModelInvalid(
                f"model {name!r}, version {version}: {folder / file} can't be read: {error.strerror}."
            ) from error
        raise ModelInvalid(f"model {name!r}, version {version}: {folder / file} is empty (an incomplete copy?).")
