"""Writes result parts off the loop's thread, with patience for a full disk.

Apart because waiting for storage must not delay a heartbeat or a time-out.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from batchyard.api.errors import TransientError
from batchyard.worker.outcomes import Work

_WRITERS = 4  # a part is durable before its batch is settled: the threads wait for the disk side by side
_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between tries before the job is stopped for want of room


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of output is durable, or (``error``) it cannot be written."""

    work: Work
    error: str | None = None


class Writer:
    """Runs writes in threads and says how each ended."""

    def __init__(self, say: Callable[[Written], None]) -> None:
        self._say = say
        self._threads = ThreadPoolExecutor(_WRITERS, thread_name_prefix="batchyard-writer")
        self._stop = threading.Event()

    def submit(self, work: Work, write: Callable[[], None]) -> None:
        """Run ``write`` until it succeeds or the patience ends; answered by one ``Written``."""
        self._threads.submit(self._run, work, write)

    def _run(self, work: Work, write: Callable[[], None]) -> None:
        error: str | None = None
        try:
            for pause in (*_PAUSES, None):
                try:
                    write()
                    error = None
                    break
                except TransientError as found:
                    error = str(found)
                    if pause is None or self._stop.wait(pause):
                        break
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
