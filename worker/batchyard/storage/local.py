"""A folder on this machine as a job's storage: atomic and durable writes, and errors that say what to do.

A file is written under ``.partial/`` in the same folder, flushed to the disk, then renamed to its name. Killed
before the rename, it was never there and ``sweep`` removes its rest; killed after, it is there in full.
"""

import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from batchyard.storage.port import StorageUnavailable, Stored

PARTIAL = ".partial"

_ADVICE = {
    errno.ENOSPC: "the disk is full: free space there",
    errno.EDQUOT: "the disk quota is used up: free space there",
    errno.EROFS: "the file system is read-only: make it writable or choose another path",
    errno.EACCES: "permission is denied: let this user write there or choose another path",
    errno.EPERM: "permission is denied: let this user write there or choose another path",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another path",
    errno.EEXIST: "it is a file, not a folder: choose another path",
}


class LocalFolder:
    """The files below one folder. Made by the first write, with its parents."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write a file, replacing it at once and only when it is whole and durable; return its size in bytes."""
        target = self.path / name
        with _told(target):
            return self._put(target, chunks)

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        target = self.path / name
        with _told(target), suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()
            _flush_folder(target.parent)

    def delete_folder(self, name: str) -> None:
        """Remove a folder if it is empty."""
        with suppress(OSError):
            (self.path / name).rmdir()

    def list(self, below: str = "") -> Iterator[Stored]:
        """Yield the files below a folder, in byte order of their names; none when there is no such folder."""
        root = self.path / below
        with _told(root):
            yield from _walk(root, f"{below}/" if below else "")

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading."""
        target = self.path / name
        with _told(target):
            file = target.open("rb")
        with file:
            yield file

    def sweep(self) -> None:
        """Remove what puts that were killed have left. Nobody may be writing."""
        with _told(self.path), suppress(FileNotFoundError):
            for entry in os.scandir(self.path / PARTIAL):
                Path(entry.path).unlink()
        self.delete_folder(PARTIAL)

    def check(self) -> str | None:
        """Make the folder if need be and write there once; return what is wrong, None when nothing is."""
        probe = f"{PARTIAL}/probe-{os.getpid()}"
        try:
            self.put(probe, [b"x"])
            self.delete(probe)
        except StorageUnavailable as error:
            return str(error)
        self.delete_folder(PARTIAL)
        return None

    def _put(self, target: Path, chunks: Iterable[bytes]) -> int:
        partial = self.path / PARTIAL
        _make(partial)
        _make(target.parent)
        rest = partial / f"{target.name}.{uuid.uuid4().hex}"
        try:
            size = 0
            with rest.open("xb", buffering=1 << 16) as file:
                for chunk in chunks:
                    size += file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            rest.replace(target)
        except BaseException:
            with suppress(OSError):
                rest.unlink()
            raise
        _flush_folder(target.parent)
        return size


def _make(folder: Path) -> None:
    """Make a folder and its parents, each durable in its own parent."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    if not folder.is_dir():
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    """Make a rename in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that flushes no folders
            raise
    finally:
        os.close(descriptor)


def _walk(folder: Path, prefix: str) -> Iterator[Stored]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(((e.name + "/" * e.is_dir(follow_symlinks=False)).encode(), e) for e in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for key, entry in found:
        if not key.endswith(b"/"):
            with suppress(FileNotFoundError):
                yield Stored(prefix + entry.name, entry.stat().st_size)
        elif prefix or entry.name != PARTIAL:
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn an OSError into a sentence that names the path and what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, (error.strerror or str(error)).lower())
        raise StorageUnavailable(f"{error.filename or path}: {advice}.") from error
