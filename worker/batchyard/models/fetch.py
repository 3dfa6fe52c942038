"""The models of a job, wherever they lie: those of a bucket are brought here, those on this disk are used in place.

Every model is listed and its layout checked before the first byte of any is fetched. A model's versions are fetched
to ``<downloads>/<name>/<version>``, each whole or not at all; what did not change since is not fetched again.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from batchyard.api.spec import Models
from batchyard.models.layout import (
    SAVED_MODEL_FILES,
    UNVERSIONED,
    Layout,
    ModelInvalid,
    directory_layouts,
    kept_versions,
    model_layout,
    name_and_version,
    version_number,
)
from batchyard.models.local import ServedModel, Wanted, check_name, read_directory, read_model
from batchyard.storage.door import Buckets, is_s3
from batchyard.storage.download import download
from batchyard.storage.near import nearest_url
from batchyard.storage.port import Storage, StorageRefused, StorageUnavailable, Stored, StoreOptions

MAX_FILES = 50_000
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between tries; each try has the patience of the storage door itself, about half a minute."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Remote:
    """A model in a bucket that is known to be one. ``below``: the key of each version's folder; ``size`` in bytes."""

    wanted: Wanted
    name: str
    storage: Storage
    below: dict[int, str]
    size: int


def ready_models(
    models: Models,
    *,
    folder: Path,
    links: Path,
    downloads: Path,
    options: StoreOptions,
    say: Callable[[str], None] = lambda _: None,
    pauses: Sequence[float] = PAUSES,
) -> list[ServedModel]:
    """Return the job's models, ready to be served, in the manifest's order (``models.dir``: by name).

    ``folder`` is where relative local paths start; ``links`` and ``downloads`` are own folders. ``say`` is told what
    is fetched. Raises ModelInvalid (a path is no model, or cannot be read) before anything is fetched, and
    StorageUnavailable, with the model's name, when the store is away for longer than all ``pauses`` (seconds) or the
    disk has too little space.
    """
    buckets = Buckets(options)
    found: list[ServedModel | _Remote] = []
    for wanted in _wanted(models):
        whole = models.dir is not None
        if is_s3(wanted.path):
            found += _patiently(partial(_listed, wanted, buckets, whole=whole), wanted.field, pauses)
        elif whole:
            found += read_directory(wanted, folder, links)
        else:
            found.append(read_model(wanted, folder, links))
    _check_space([model for model in found if isinstance(model, _Remote)], downloads)
    return [_fetched(m, downloads, say, pauses) if isinstance(m, _Remote) else m for m in found]


def _wanted(models: Models) -> Iterator[Wanted]:
    for field, path in (("models.path", models.path), ("models.dir", models.dir)):
        if path is not None:
            yield Wanted(field, path, None, models.signature_key, models.versions)
    for i, entry in enumerate(models.paths or []):
        yield Wanted(
            f"models.paths[{i}].path",
            entry.path,
            entry.name,
            entry.signature_key or models.signature_key,
            entry.versions or models.versions,
        )


def _listed(wanted: Wanted, buckets: Buckets, *, whole: bool) -> list[_Remote]:
    """Return the model below a prefix, or with ``whole`` each of them. Raises ModelInvalid, StorageUnavailable."""
    try:
        storage, key = buckets.of(wanted.path)
        below = key.rstrip("/")
        files = {f.name.removeprefix(f"{below}/" if below else ""): f for f in _files(storage, below, wanted)}
        if not files:
            near = nearest_url(storage, below)
            hint = f" Did you mean {near}?" if near else ""
            raise ModelInvalid(f"{wanted.field}: there is no file below {wanted.path}.{hint}")
    except StorageRefused as error:
        raise ModelInvalid(f"{wanted.field}: {error}") from error
    if whole:
        layouts = directory_layouts(files, wanted.path)
        return [_remote(wanted, name, storage, below, name, files, layout) for name, layout in layouts.items()]
    layout = model_layout(files, wanted.path, wanted.field)
    name, version = name_and_version(wanted.path)
    if not layout.is_versioned:
        layout = Layout({version if wanted.name is None else UNVERSIONED: ""})
    return [_remote(wanted, wanted.name or name, storage, below, "", files, layout)]


def _files(storage: Storage, below: str, wanted: Wanted) -> list[Stored]:
    files = list(islice(storage.list(below), MAX_FILES + 1))
    if len(files) > MAX_FILES:
        raise ModelInvalid(
            f"{wanted.field}: {wanted.path} holds more than {MAX_FILES:,} files, expected the prefix of a model: "
            "saved_model.pb, or version folders that hold one each."
        )
    return files


def _remote(
    wanted: Wanted, name: str, storage: Storage, prefix: str, inner: str, files: dict[str, Stored], layout: Layout
) -> _Remote:
    """Make a model of what is listed; ``inner`` is its folder below ``prefix``, "" for the prefix itself."""
    check_name(name, wanted.path)
    layout = kept_versions(layout, wanted.versions, f"{wanted.field}: {wanted.path}")
    size, below = 0, {}
    for version, folder in layout.folders.items():
        parts = [part for part in (inner, folder) if part]
        here = "".join(f"{part}/" for part in parts)
        graph = next(here + file for file in SAVED_MODEL_FILES if here + file in files)
        if not files[graph].size:
            raise ModelInvalid(f"model {name!r}, version {version}: {storage.url(files[graph].name)} is empty.")
        size += sum(stored.size for file, stored in files.items() if file.startswith(here))
        below[version] = "/".join([part for part in (prefix, *parts) if part])
    return _Remote(wanted, name, storage, below, size)


def _check_space(models: Sequence[_Remote], downloads: Path) -> None:
    """Raise StorageUnavailable when what is still to fetch has no room; for all models at once, before the first."""
    missing = sum(max(0, model.size - _size(downloads / model.name)) for model in models)
    if not missing:
        return
    there = next(path for path in (downloads, *downloads.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if missing > free:
        names = ", ".join(repr(model.name) for model in models)
        raise StorageUnavailable(
            f"the models {names} need {missing:,} more bytes in {downloads}, and {free:,} are free: free space there."
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _fetched(model: _Remote, downloads: Path, say: Callable[[str], None], pauses: Sequence[float]) -> ServedModel:
    base = downloads / model.name
    where = f"{model.wanted.field}: model {model.name!r}"
    if not all((base / f".{version}.fetched").exists() for version in model.below):
        say(f"fetching the model {model.name!r} from {model.wanted.path} ({model.size / 1e6:,.1f} MB)")
    for version, below in model.below.items():
        _patiently(partial(download, model.storage, below, base / str(version)), where, pauses)
    for other in list(base.iterdir()):
        number = version_number(other.name)
        if number is not None and number not in model.below:  # the server would load it
            (base / f".{other.name}.fetched").unlink(missing_ok=True)
            shutil.rmtree(other)
    return ServedModel(model.name, base, tuple(sorted(model.below)), model.wanted.signature_key)


def _patiently(call: Callable[[], T], where: str, pauses: Sequence[float]) -> T:
    """Call until the store answers. What is said of an error begins with ``where``."""
    for pause in (*pauses, None):
        try:
            return call()
        except StorageRefused as error:
            raise ModelInvalid(f"{where}: {error}") from error
        except StorageUnavailable as error:
            if pause is None:
                raise StorageUnavailable(f"{where}: {error}") from error
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")
