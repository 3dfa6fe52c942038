"""The bytes of an input file from any place in it, of this disk or a bucket, gzip or not; and whether it changed.

What is read is one version of the file: a local one is looked at before and after, and of one in a bucket each
request names the ETag that its listing gave.
"""

import gzip
import io
import os
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from batchyard.enqueue.ahead import Ahead
from batchyard.enqueue.root import Listed
from batchyard.enqueue.split import InputInvalid, Origin
from batchyard.storage.door import Buckets, is_s3
from batchyard.storage.port import Changed, NotThere, StorageRefused

BLOCK = 1 << 18
_GZIP = b"\x1f\x8b"

Raw = Callable[[int], Generator[bytes]]
"""A file's bytes from an offset on."""


class Bytes:
    """Reads the files of an input. ``buckets`` are opened at the first file that lies in one."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def files(self, listing: Iterator[Listed]) -> Iterator[tuple[Listed, Raw]]:
        """Yield files in order, each with its bytes: to be taken from the start once, before the next file."""
        ahead = Ahead(listing, self._fetched)
        for listed in ahead.files():
            yield listed, self._raw(listed) if not is_s3(listed.path) else lambda _: ahead.blocks()

    def entered(self, listed: Listed) -> Raw:
        """Return the bytes of one file that may be entered anywhere, several times."""
        if not is_s3(listed.path):
            return self._raw(listed)

        def read(start: int) -> Generator[bytes]:
            one = Ahead(iter([listed]), self._fetched, start)
            for _ in one.files():
                yield from one.blocks()

        return read

    def _fetched(self, listed: Listed, start: int, stop: int) -> Iterator[bytes]:
        bucket, key = self._buckets.of(listed.path)
        with told(listed.shown):
            for chunk in bucket.chunks(key, start, stop, listed.etag):
                start += len(chunk)
                yield chunk
        if start != stop:  # of a store that gives no ETags
            raise InputInvalid(changed(listed.shown, "it became shorter"))

    def _raw(self, listed: Listed) -> Raw:
        def read(start: int) -> Generator[bytes]:
            with open(listed.path, "rb", buffering=0) as file:  # noqa: PTH123 - a string path, ten thousands of times
                file.seek(start)
                while block := file.read(BLOCK):
                    yield block

        return read


def origin_of(listed: Listed) -> Origin:
    """Return what values of a file come from; a local file is asked for its size and time. Raises InputInvalid."""
    if is_s3(listed.path):
        return Origin(listed.shown, listed.path, listed.root, listed.below, listed.size, 0, listed.etag)
    try:
        info = os.stat(listed.path)  # noqa: PTH116
    except OSError as error:
        raise InputInvalid(f"{listed.shown}: the file cannot be read: {error.strerror}.") from error
    return Origin(listed.shown, listed.path, listed.root, listed.below, info.st_size, info.st_mtime_ns)


def check_same(before: Origin, now: Origin, how: str) -> None:
    """Raise InputInvalid when a file is not what it was."""
    if (before.size, before.mtime_ns, before.etag) != (now.size, now.mtime_ns, now.etag):
        raise InputInvalid(changed(now.shown, how))


def changed(shown: str, how: str) -> str:
    """Return the sentence for a file that changed; ``how``: how it was found out."""
    return (
        f"{shown}: found the file changed while the job was reading its input ({how}), expected it to stay as it was."
    )


def unpacked(shown: str, packed: bool, offset: int, raw: Raw) -> Iterator[bytes]:
    """Yield a file's bytes from ``offset`` (of the decompressed bytes), known by its first bytes as gzip or not.

    ``packed``: its name says gzip. Raises InputInvalid for damaged data and a file that cannot be read.
    """
    try:
        with told(shown):
            stream = raw(0)
            head = next(stream, b"")
            while 0 < len(head) < len(_GZIP) and (more := next(stream, b"")):
                head += more
            if not head.startswith(_GZIP):
                if packed and head:
                    raise InputInvalid(f"{shown}: found no gzip data, expected it by the name's .gz.")
                if offset:
                    stream.close()
                    yield from raw(offset)
                else:
                    yield from chain([head] if head else [], stream)
                return
            with gzip.GzipFile(fileobj=io.BufferedReader(_Joined(chain([head], stream)), BLOCK), mode="rb") as data:
                data.seek(offset)
                while block := data.read(BLOCK):
                    yield block
    except EOFError:
        raise InputInvalid(
            f"{shown}: found gzip data that ends too early (a half upload?), expected the whole file."
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputInvalid(f"{shown}: found damaged gzip data ({error}), expected the whole file.") from error
    except OSError as error:
        raise InputInvalid(f"{shown}: the file cannot be read: {error.strerror}.") from error


@contextmanager
def told(shown: str) -> Iterator[None]:
    """Turn what a bucket refuses into what the job's input has wrong."""
    try:
        yield
    except (Changed, NotThere) as error:
        how = "it is gone" if isinstance(error, NotThere) else "its ETag is not what it was"
        raise InputInvalid(changed(shown, how)) from error
    except StorageRefused as error:
        raise InputInvalid(str(error)) from error


class _Joined(io.RawIOBase):
    """Blocks as a raw file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what is there; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
