"""Reads an object as a stream that goes on where a connection broke, and never mixes two versions of it."""

import io
import random
import re
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from batchyard.storage.port import Changed, StorageUnavailable
from batchyard.storage.s3_client import Bucket
from batchyard.storage.s3_errors import BeyondTheEnd

_CHUNK = 1 << 20
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 10.0
_GET = "s3:GetObject"


def chunks(bucket: Bucket, key: str, start: int, stop: int | None, etag: str) -> Generator[bytes]:
    """Yield the bytes from ``start`` to before ``stop``, fewer where the object ends.

    The first answer pins the object's ETag. A body that ends early, told by its length, is asked for again from the
    next byte on; given up when that fails ``attempts`` times in a row without one byte of progress.
    """
    position, failures = start, 0
    while stop is None or position < stop:
        began = position
        try:
            answer = _asked(bucket, key, position, stop, etag)
            if answer is None:
                if position > start:
                    raise Changed(f"{bucket.url(key)} was changed while it was read: it became shorter.")
                return
            etag, size = answer.get("ETag", etag), _size(answer, position, bucket.url(key))
            stop = size if stop is None or size is None else min(stop, size)
            with closing(answer["Body"]) as body:
                while chunk := _next(bucket, key, body):
                    position += len(chunk)
                    yield chunk
            if stop is None or position >= stop:
                return
            broken = StorageUnavailable(f"{bucket.url(key)}: the answer ended {stop - position} bytes early.")
        except StorageUnavailable as error:
            broken = error
        failures = 1 if position > began else failures + 1
        if failures >= bucket.options.attempts:
            raise broken
        time.sleep(random.uniform(0.5, 1) * min(_PAUSE_S * 2**failures, _LONGEST_PAUSE_S))  # noqa: S311 - jitter


def _asked(bucket: Bucket, key: str, position: int, stop: int | None, etag: str) -> dict[str, Any] | None:
    """Ask for the object from a byte on; return None when it ends before."""
    more: dict[str, Any] = {"IfMatch": etag} if etag else {}
    if position or stop is not None:
        more["Range"] = f"bytes={position}-{stop - 1 if stop is not None else ''}"
    try:
        return bucket.call("get_object", _GET, key, **more)
    except BeyondTheEnd:
        return None


def _next(bucket: Bucket, key: str, body: Any) -> bytes:
    with bucket.told(key, _GET):
        data: bytes = body.read(_CHUNK)
        return data


def _size(answer: dict[str, Any], position: int, url: str) -> int | None:
    """Return the object's size; None when the answer does not tell. A server may answer with less than was asked."""
    if content := answer.get("ContentRange"):
        found = re.match(r"bytes (\d+)-(\d+)/(\d+|\*)", content)
        if not found or int(found[1]) != position:
            raise StorageUnavailable(f"{url}: the store answers {content!r} when asked from byte {position} on.")
        return None if found[3] == "*" else int(found[3])
    if position:
        raise StorageUnavailable(f"{url}: the store does not serve byte ranges.")
    length = answer.get("ContentLength")
    return None if length is None else int(length)


class ChunkReader(io.RawIOBase):
    """Chunks as a raw file, to be wrapped in ``io.BufferedReader``."""

    def __init__(self, source: Iterator[bytes], first: bytes = b"") -> None:
        self._source = source
        self._rest = memoryview(first)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what is there; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._source, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
