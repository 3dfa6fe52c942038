"""The bytes of a bucket's files, fetched side by side and given out in order.

One connection to an object store is slow to start and slower than what is behind it. So ranges of the file that is
being read, and the files behind it, are on their way before they are asked for. How many and how large they are grows
with what was taken: the first lines are there soon, and a look at a file's head fetches little.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from batchyard.api.errors import BatchyardError
from batchyard.enqueue.root import Listed

FIRST_PIECE, PIECE = 1 << 18, 4 << 20
"""Bytes of one request, which doubles from the first to the second; with those on their way it bounds the memory."""

AT_ONCE = 8

Fetch = Callable[[Listed, int, int], Iterator[bytes]]
"""Yields the bytes of a file between two offsets."""


@dataclass
class _File:
    """A file of which some pieces were asked for; ``position`` is the first byte that was not."""

    listed: Listed
    position: int
    pieces: deque[Future[list[bytes]]] = field(default_factory=deque)


class Ahead:
    """Files one behind the other. Not for several threads."""

    def __init__(self, listing: Iterator[Listed], fetch: Fetch, start: int = 0) -> None:
        """Take the first file from ``start`` on. A file without a size (a local one) is passed through as it is."""
        self._listing = listing
        self._fetch = fetch
        self._start = start
        self._files: deque[_File] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._stop = threading.Event()
        self._on_the_way = 0
        self._taken = 0
        self._end: StopIteration | BatchyardError | None = None

    def files(self) -> Iterator[Listed]:
        """Yield each file in order; it is to be read before the next one is asked for."""
        try:
            while True:
                self._fill()
                if not self._files:
                    if isinstance(self._end, BatchyardError):
                        raise self._end
                    return
                file = self._files[0]
                yield file.listed
                self._files.popleft()
                self._on_the_way -= len(file.pieces)
        finally:
            self._stop.set()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)

    def blocks(self) -> Generator[bytes]:
        """Yield the bytes of the file that was yielded last, once."""
        file = self._files[0]
        while True:
            self._fill()
            if not file.pieces:
                return
            blocks = file.pieces.popleft().result()
            self._on_the_way -= 1
            self._taken += 1
            self._fill()
            yield from blocks

    def _fill(self) -> None:
        """Ask for pieces until enough are on their way; what is wrong behind them is told when it is come to."""
        while self._on_the_way < min(AT_ONCE, self._taken + 1) and len(self._files) < 4 * AT_ONCE:
            file = self._files[-1] if self._files else None
            if file is not None and file.position < file.listed.size:
                self._ask(file)
                continue
            if self._end is not None:
                return
            try:
                listed = next(self._listing)
            except (StopIteration, BatchyardError) as error:  # the latter is raised behind the files before it
                self._end = error
                return
            self._files.append(_File(listed, self._start))
            self._start = 0

    def _ask(self, file: _File) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, "read-ahead")
        size = min(PIECE, FIRST_PIECE << min(self._taken, 10))
        stop = min(file.position + size, file.listed.size)
        file.pieces.append(self._pool.submit(self._got, file.listed, file.position, stop))
        file.position = stop
        self._on_the_way += 1

    def _got(self, listed: Listed, start: int, stop: int) -> list[bytes]:
        blocks: list[bytes] = []
        for block in self._fetch(listed, start, stop):
            if self._stop.is_set():
                break
            blocks.append(block)
        return blocks
