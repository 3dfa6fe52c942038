"""Writes result parts off the loop's thread, with patience for a full disk or a store that is away.

Apart because waiting for storage must not delay a heartbeat or a time-out.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from batchyard.api.errors import InvalidError, TransientError
from batchyard.worker.outcomes import Work

_TO_DISK = 4  # a part is durable before its batch is settled: the threads wait for the disk side by side
_TO_STORE = 32  # a put takes a store tens of milliseconds, and hardly any of ours
_HELD_BYTES = 32 << 20  # of results, from which on no more are made than a few
_FEW = 16
_MANY = 96
_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between tries before the job is stopped for want of room
_STORE_PAUSES = (*_PAUSES, 8.0, 15.0, 30.0, 30.0, 30.0, 30.0, 30.0)  # a store is started again, throttling ends


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of output is durable, or (``error``) it cannot be written."""

    work: Work
    error: str | None = None


class Writer:
    """Runs writes in threads and says how each ended. ``submit``, ``take`` and ``has_room`` are for one thread."""

    def __init__(self, say: Callable[[Written], None], *, to_store: bool) -> None:
        """``to_store``: the output is an object store, whose answers are waited for side by side."""
        self._say = say
        self._most = _MANY if to_store else _FEW
        self._pauses = _STORE_PAUSES if to_store else _PAUSES
        self._threads = ThreadPoolExecutor(_TO_STORE if to_store else _TO_DISK, thread_name_prefix="batchyard-writer")
        self._stop = threading.Event()
        self._sizes: dict[int, int] = {}  # of what is under way, by the identity of its work
        self._bytes = 0

    @property
    def under_way(self) -> int:
        """Writes whose ``Written`` was not taken yet."""
        return len(self._sizes)

    @property
    def has_room(self) -> bool:
        """Whether more results may be made: those that wait for a slow or full disk are held in memory."""
        return len(self._sizes) < (self._most if self._bytes < _HELD_BYTES else _FEW)

    def submit(self, work: Work, write: Callable[[], None], size: int = 0) -> None:
        """Run ``write``, of ``size`` bytes, until it succeeds or the patience ends; answered by one ``Written``."""
        self._sizes[id(work)] = size
        self._bytes += size
        self._threads.submit(self._run, work, write)

    def take(self, written: Written) -> None:
        """Forget a write that was answered."""
        self._bytes -= self._sizes.pop(id(written.work))

    def _run(self, work: Work, write: Callable[[], None]) -> None:
        error: str | None = None
        try:
            for pause in (*self._pauses, None):
                try:
                    write()
                    error = None
                    break
                except TransientError as found:
                    error = str(found)
                    if pause is None or self._stop.wait(pause):
                        break
        except InvalidError as found:  # nothing to wait for
            error = str(found)
        except Exception as bug:  # noqa: BLE001 - a thread's own trace would be lost; the loop ends the worker with it
            error = f"{type(bug).__name__}: {bug}"
        self._say(Written(work, error))

    def hurry(self) -> None:
        """Try each write once from now on: the worker leaves, and what cannot be written goes back to the queue."""
        self._stop.set()

    def close(self) -> None:
        """Let writes under way finish without further patience."""
        self._stop.set()
        self._threads.shutdown(wait=True)
