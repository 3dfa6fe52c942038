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

from batchyard.storage.port import Changed, NotThere, StorageUnavailable, Stored

PARTIAL = ".partial"
_CHUNK = 1 << 20
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)

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

    def url(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.path / name)

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write a file, replacing it at once and only when it is whole and durable; return its size in bytes."""
        target = self.path / name
        with told(target):
            return self._put(target, chunks)

    def put_new(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one. A link is made whole or not at all, and never replaces a file."""
        target = self.path / name
        draft = f"{name}.{uuid.uuid4().hex}"  # beside it, where nobody's sweep removes it meanwhile
        self.put(draft, [data])
        try:
            with told(target):
                return _linked(self.path / draft, target)
        except _NoLinks:
            if target.exists():
                return False
            self.put(name, [data])
            return True
        finally:
            self.delete(draft)

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        target = self.path / name
        with told(target), suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()
            _flush_folder(target.parent)

    def delete_all(self, names: Iterable[str]) -> int:
        """Remove files; return how many names were given."""
        count = 0
        for name in names:
            self.delete(name)
            count += 1
        return count

    def delete_folder(self, name: str) -> None:
        """Remove a folder if it is empty."""
        with suppress(OSError):
            (self.path / name).rmdir()

    def delete_below(self, below: str) -> int:
        """Remove every file below a folder, and the folder; return how many there were."""
        count = 0
        for stored in self.list(below):
            self.delete(stored.name)
            count += 1
        for folder, _, _ in os.walk(self.path / below, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        return count

    def list(self, below: str = "", *, beginning: str = "", after: str = "") -> Iterator[Stored]:
        """Yield the files below a folder, in byte order of their names; none when there is no such folder."""
        root = self.path / below
        prefix = f"{below.rstrip('/')}/" if below else ""
        last = os.fsencode(after)
        with told(root):
            for stored in _walk(root, prefix):
                if stored.name.startswith(prefix + beginning) and os.fsencode(stored.name) > last:
                    yield stored

    def stat(self, name: str) -> Stored:
        """Return a file's size and tag; raise NotThere."""
        target = self.path / name
        with told(target):
            return _stored(name, _file(target).stat())

    @contextmanager
    def open(self, name: str, etag: str = "") -> Iterator[BinaryIO]:
        """Open a file for reading. It is read as it was when opened, were it replaced in the meantime."""
        target = self.path / name
        with told(target):
            file = _file(target).open("rb")
        with file:
            if etag and _stored(name, os.fstat(file.fileno())).etag != etag:
                raise Changed(f"{target} was changed while it was read: leave input files alone while a job runs.")
            yield file

    def chunks(self, name: str, start: int = 0, stop: int | None = None, etag: str = "") -> Iterator[bytes]:
        """Yield the bytes from ``start`` to before ``stop``, fewer where the file ends."""
        with self.open(name, etag) as file, told(self.path / name):
            file.seek(start)
            left = stop - start if stop is not None else os.fstat(file.fileno()).st_size - start
            while left > 0 and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk

    def sweep(self) -> None:
        """Remove what puts that were killed have left. Nobody may be writing."""
        with told(self.path), suppress(FileNotFoundError):
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


class _NoLinks(Exception):
    """The file system knows no hard links."""


def _linked(draft: Path, target: Path) -> bool:
    """Give a file a second name unless that is taken; return whether it was done."""
    try:
        target.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise _NoLinks from None
        raise
    _flush_folder(target.parent)
    return True


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
                yield _stored(prefix + entry.name, entry.stat())
        elif prefix or entry.name != PARTIAL:
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")


def _stored(name: str, found: os.stat_result) -> Stored:
    return Stored(name, found.st_size, f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}")


def _file(path: Path) -> Path:
    """Return a path that is no folder."""
    if path.is_dir():
        raise NotThere(f"{path} is a folder: a file is expected there.")
    return path


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an OSError into a sentence that names the path and what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotThere(f"There is no file or folder {error.filename or path}.") from error
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, (error.strerror or str(error)).lower())
        raise StorageUnavailable(f"{error.filename or path}: {advice}.") from error
