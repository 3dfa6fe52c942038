"""Downloads a folder whole: parallel over files and ranges, and never half of it to be seen.

Files gather in ``.NAME.partial`` beside the folder, which is then renamed. Killed before, the next download keeps the
files that were whole; killed after, the folder is there and the record ``.NAME.fetched`` may be missing, which costs
one more download. It works over the door alone: what it resumes is the door's doing.
"""

import errno
import fcntl
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from batchyard.storage.local import told
from batchyard.storage.port import Changed, NotThere, Storage, StorageRefused, StorageUnavailable, Stored

_RANGE = 32 << 20
_THREADS = 8


class _Piece(NamedTuple):
    stored: Stored
    start: int
    stop: int


def download(
    storage: Storage, below: str, folder: Path, *, threads: int = _THREADS, piece: int = _RANGE
) -> Sequence[Stored]:
    """Copy the files below ``below`` to ``folder``, and return them with names below ``below``.

    A folder that an earlier download of the same files made is left as it is; another one is replaced. Several
    processes may ask for the same folder at once: one downloads it. Raises NotThere for an empty folder, Changed
    when a file changed in the meantime, StorageRefused for names that no folder can hold, and, before anything is
    fetched, StorageUnavailable when the disk has too little space.
    """
    files = _planned(storage, below)
    with told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        record = folder.with_name(f".{folder.name}.fetched")
        with staged(folder.with_name(f".{folder.name}.partial")) as stage:
            wanted = [_line(stored) for stored in files]
            if folder.is_dir() and _lines(record) == wanted:
                shutil.rmtree(stage)
                return files
            fetch = _Fetch(storage, below, stage, threads, piece)
            fetch.run(files)
            _reveal(stage, folder, record, wanted)
    return files


class _Fetch:
    """The files of one download on their way into the stage."""

    def __init__(self, storage: Storage, below: str, stage: Path, threads: int, piece: int) -> None:
        self._storage = storage
        self._below = f"{below.rstrip('/')}/" if below else ""
        self._tree = stage / "tree"
        self._journal = stage / "whole"
        self._threads = threads
        self._piece = piece
        self._left: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, files: Sequence[Stored]) -> None:
        """Fetch what an earlier try has not; the first failure ends it."""
        missing = self._missing(files)
        _check_space(self._tree, sum(stored.size for stored in missing))
        pieces = [piece for stored in missing for piece in self._prepared(stored)]
        self._left.update(piece.stored.name for piece in pieces)
        with ThreadPoolExecutor(self._threads, "download") as pool:
            futures: list[Future[None]] = []
            try:
                futures += [pool.submit(self._fetch, piece) for piece in pieces]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)

    def _missing(self, files: Sequence[Stored]) -> Sequence[Stored]:
        """Return what is still to fetch, and remove from the stage whatever is not whole."""
        self._tree.mkdir(exist_ok=True)
        kept = set(_lines(self._journal))
        whole = {stored.name for stored in files if _line(stored) in kept}
        for path in [p for p in self._tree.rglob("*") if p.is_file()]:
            name = path.relative_to(self._tree).as_posix()
            if name not in whole:
                path.unlink()
        whole = {name for name in whole if (self._tree / name).is_file()}
        return [stored for stored in files if stored.name not in whole]

    def _prepared(self, stored: Stored) -> Iterator[_Piece]:
        path = self._tree / stored.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(stored.size)
        for start in range(0, max(stored.size, 1), self._piece):
            yield _Piece(stored, start, min(start + self._piece, stored.size))

    def _fetch(self, piece: _Piece) -> None:
        stored, position, stop = piece
        path = self._tree / stored.name
        with told(path), path.open("r+b", buffering=0) as file:
            file.seek(position)
            if position < stop:
                for chunk in self._storage.chunks(self._below + stored.name, position, stop, stored.etag):
                    if self._stop.is_set():
                        return
                    _write(file.fileno(), chunk)
                    position += len(chunk)
            if position != stop:
                raise Changed(
                    f"{self._storage.url(self._below + stored.name)} became shorter while it was downloaded."
                )
            with self._lock:
                self._left[stored.name] -= 1
                last = not self._left[stored.name]
            if last:
                os.fsync(file.fileno())
                self._note(stored)

    def _note(self, stored: Stored) -> None:
        with self._lock, self._journal.open("a") as journal:
            journal.write(_line(stored) + "\n")


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _planned(storage: Storage, below: str) -> Sequence[Stored]:
    """List the files, with names below ``below``; refuse names that no folder can hold."""
    prefix = f"{below.rstrip('/')}/" if below else ""
    files = [stored._replace(name=stored.name.removeprefix(prefix)) for stored in storage.list(below)]
    if not files:
        raise NotThere(f"{storage.url(below)}: there is no file there.")
    names = {stored.name for stored in files}
    for name in names:
        if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            raise StorageRefused(
                f"{storage.url(prefix + name)}: this name cannot be a path below a folder: rename it."
            )
        for parent in (name[:at] for at, letter in enumerate(name) if letter == "/"):
            if parent in names:
                raise StorageRefused(
                    f"{storage.url(prefix + parent)} is a file, and {name!r} lies below it: no folder holds both."
                )
    return files


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageUnavailable(f"{folder.parent}: {needed} bytes are needed and {free} are free: free space there.")


@contextmanager
def staged(stage: Path) -> Iterator[Path]:
    """Make the stage and hold it against other processes; whoever had it before may have renamed it away."""
    while True:
        with suppress(FileExistsError):  # not exist_ok: that looks again, and raises if it was renamed away meanwhile
            stage.mkdir()
        try:
            held = os.open(stage, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            if _is(held, stage):
                yield stage
                return
        finally:
            os.close(held)


def _is(held: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(held), path.stat())
    return False


def _reveal(stage: Path, folder: Path, record: Path, lines: Sequence[str]) -> None:
    """Rename the whole tree to its place. The record goes before the old folder does, and comes after the new one."""
    record.unlink(missing_ok=True)
    if folder.exists():
        old = stage / "old"
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    (stage / "tree").rename(folder)
    fresh = stage / "record"
    fresh.write_text("\n".join(lines))
    fresh.rename(record)
    shutil.rmtree(stage)


def _line(stored: Stored) -> str:
    return json.dumps([stored.name, stored.size, stored.etag])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError as error:
        if error.errno == errno.ENOENT:
            return []
        raise
