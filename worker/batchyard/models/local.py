"""Models on this machine's disk: reads the folders that ``models`` names and lays them out for a model server.

A server serves version folders only, and all that it finds. So a model that is one SavedModel is linked as
``<links>/<name>/1``, and where some versions of a model are asked for, those are linked. Nothing is copied; the links
may be made again at any moment and by several runs at once.
"""

import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.api.errors import nearest
from batchyard.models.layout import (
    SAVED_MODEL_FILES,
    UNVERSIONED,
    Layout,
    ModelInvalid,
    directory_layouts,
    kept_versions,
    model_layout,
    name_and_version,
)

_MAX_DEPTH = 6  # models.dir / model / version / variables / file, and one for a good hint
_MAX_ENTRIES = 50_000
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


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


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model as the manifest gives it: ``path`` as written, ``field`` where it stands.

    ``name`` is None where the folder's own is taken. ``versions`` as written, None for all.
    """

    field: str
    path: str
    name: str | None = None
    signature_key: str | None = None
    versions: str | Sequence[int] | None = None


def read_model(wanted: Wanted, folder: Path, links: Path) -> ServedModel:
    """Return a model on this machine's disk.

    ``folder`` is where relative paths start, ``links`` an own folder for the links. Raises ModelInvalid: the folder
    is missing, unreadable or no model, or lacks a version that is asked for.
    """
    root = _existing(folder, wanted.path, wanted.field)
    layout = model_layout(_listing(root, wanted.path), wanted.path, wanted.field)
    name, version = name_and_version(str(root))
    return _served(wanted, wanted.name or name, root, layout, links, version if wanted.name is None else UNVERSIONED)


def read_directory(wanted: Wanted, folder: Path, links: Path) -> list[ServedModel]:
    """Return the models of a ``models.dir`` on this machine's disk, by name; the rest as ``read_model``."""
    root = _existing(folder, wanted.path, wanted.field)
    layouts = directory_layouts(_listing(root, wanted.path), wanted.path)
    return [_served(wanted, name, root / name, layout, links) for name, layout in layouts.items()]


def check_name(name: str, path: object) -> None:
    """Raise ModelInvalid for a name that no model can have. ``path``: where the model is."""
    if not _MODEL_NAME.fullmatch(name):
        raise ModelInvalid(
            f"the model in {path} would be named {name!r}, expected letters, digits, '_', '-' and '.'; "
            "give it a name in models.paths."
        )


def _served(
    wanted: Wanted, name: str, root: Path, layout: Layout, links: Path, version: int = UNVERSIONED
) -> ServedModel:
    check_name(name, root)
    whole = layout if layout.is_versioned else Layout({version: ""})
    layout = kept_versions(whole, wanted.versions, f"{wanted.field}: {wanted.path}")
    targets = {number: root / below if below else root for number, below in layout.folders.items()}
    for number, target in targets.items():
        _check_readable(target, name, number)
    if layout.is_versioned and layout.versions == whole.versions:
        return ServedModel(name, root, layout.versions, wanted.signature_key)
    _link_versions(links / name, targets)
    return ServedModel(name, links / name, layout.versions, wanted.signature_key)


def _link_versions(base: Path, targets: Mapping[int, Path]) -> None:
    """Make ``base`` hold a link a version and no other; each step leaves a usable folder."""
    base.mkdir(parents=True, exist_ok=True)
    links = {base / str(version): target for version, target in targets.items()}
    for link, target in links.items():
        if not (link.is_symlink() and link.readlink() == target):
            fresh = base / f".{link.name}.{os.getpid()}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target, target_is_directory=True)
            fresh.replace(link)
    for other in base.iterdir():
        if other.is_symlink() and other not in links:
            other.unlink(missing_ok=True)


def _existing(folder: Path, path: str, where: str) -> Path:
    """Return the absolute folder ``path`` means. Raises ModelInvalid with the nearest sibling when there is none."""
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
