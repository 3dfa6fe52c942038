"""Puts batches that the queue cannot hold into the job's work prefix, side by side, before they are published.

Apart from ``publish`` because it has threads. A put that is not followed by its publish leaves a file that the next
enqueuer replaces: it cuts the same batch again.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from batchyard.api.messages import reference
from batchyard.enqueue.settings import EnqueueSettings
from batchyard.enqueue.split import Batch, InputInvalid
from batchyard.storage.port import StorageRefused, StorageUnavailable
from batchyard.storage.work import LargeBatches

_THREADS = 4
_AHEAD_BYTES = 64 << 20
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds between tries; the last one again and again


class Storing:
    """The batches of one enqueuer that are passed by reference. Opened by the first of them."""

    def __init__(
        self, settings: EnqueueSettings, most: int, stop: threading.Event, say: Callable[[str, str], None]
    ) -> None:
        """``most``: bytes of the largest body that the queue takes."""
        self._settings, self._most, self._stop, self._say = settings, most, stop, say
        self._folder: LargeBatches | None = None
        self._pool = ThreadPoolExecutor(_THREADS, "batchyard-storing")
        self._under_way: deque[tuple[int, Future[None]]] = deque()

    def body(self, index: int, batch: Batch) -> bytes:
        """Return the message of a batch: its own, or a reference to items that ``wait`` waits for."""
        if len(batch.body) <= self._most or not self._settings.storage.work:
            return batch.body
        folder = self._open()
        items = memoryview(batch.body)[batch.body.index(b"\n") + 1 :]
        while self._under_way and sum(size for size, _ in self._under_way) + len(items) > _AHEAD_BYTES:
            self._under_way.popleft()[1].result()
        self._under_way.append((len(items), self._pool.submit(self._put, folder, index, items)))
        return reference(batch.header, len(items))

    def wait(self) -> None:
        """Return once all items are stored. Raises InputInvalid where the prefix refuses them.

        When asked to stop they may not be: nothing may be published then.
        """
        while self._under_way:
            self._under_way.popleft()[1].result()

    def close(self) -> None:
        """Let go of what is not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _put(self, folder: LargeBatches, index: int, items: memoryview) -> None:
        pauses = deque(_PAUSES)
        while not self._stop.is_set():
            try:
                folder.put(index, items)
            except StorageUnavailable as error:
                self._say("WARNING", f"the work prefix does not answer, trying again: {error}")
                self._stop.wait(pauses.popleft() if len(pauses) > 1 else pauses[0])
            except StorageRefused as error:
                raise InputInvalid(f"storage.work: batch {index} cannot be stored: {error}") from error
            else:
                return

    def _open(self) -> LargeBatches:
        if self._folder is None:
            try:
                self._folder = LargeBatches(self._settings.storage, self._settings.job_id)
            except StorageRefused as error:
                raise InputInvalid(f"storage.work: {error}") from error
        return self._folder
