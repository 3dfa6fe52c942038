"""Reads results back, in the order of the input: one stream over any number of parts, read ahead from a bucket."""

import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from itertools import chain
from typing import Any

import orjson

from batchyard.output.parts import FileNotThere, OutputInvalid, Parts
from batchyard.storage.port import Stored, StoreOptions

_THREADS = 16
_AHEAD_PARTS = 64
_AHEAD_BYTES = 64 << 20
_WHOLE_BYTES = 8 << 20  # a larger part is streamed when its turn comes

_Waiting = tuple[Stored, "Future[bytes] | None"]


def read_results(path: str | os.PathLike[str], options: StoreOptions | None = None) -> Iterator[dict[str, Any]]:
    """Yield every result line below an output, in the order of the input. Raises OutputUnavailable, OutputInvalid."""
    for line in read_lines(Parts(path, options)):
        yield decode(line)


def decode(line: bytes) -> dict[str, Any]:
    """Return a result line's record. Raises OutputInvalid for a line that nobody of ours has written."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            record = json.loads(line)  # what only Python reads, such as half a surrogate pair
        except ValueError:
            record = None
    if not isinstance(record, dict):
        raise OutputInvalid(f"output: found {line[:60]!r} in a part, expected a JSON object a line.")
    return record


def read_lines(parts: Parts) -> Iterator[bytes]:
    """Yield every result line as it is written, with its end, in the order of the input. Raises OutputUnavailable.

    Of a bucket small parts are read ahead side by side: at most 64 of them and 64 MiB are in memory. A part that goes
    while it is read (a batch that ran again and now has no result) is left out.
    """
    if not parts.is_remote:
        for stored in parts.written():
            yield from _lines(parts, (stored, None))
        return
    with ThreadPoolExecutor(_THREADS, "batchyard-reader") as pool:
        waiting: deque[_Waiting] = deque()
        ahead = 0
        try:
            for found in chain(parts.written(), [None]):
                while waiting and (found is None or len(waiting) >= _AHEAD_PARTS or ahead > _AHEAD_BYTES):
                    first = waiting.popleft()
                    yield from _lines(parts, first)
                    ahead -= first[0].size if first[1] else 0
                if found is not None:
                    is_small = found.size <= _WHOLE_BYTES
                    ahead += found.size if is_small else 0
                    waiting.append((found, pool.submit(parts.content, found.name) if is_small else None))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _lines(parts: Parts, waiting: _Waiting) -> Iterator[bytes]:
    stored, content = waiting
    with suppress(FileNotThere):
        yield from parts.lines(stored.name) if content is None else BytesIO(content.result())
