"""What a worker writes to the job's output: parts while it runs, and the files that close it."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from batchyard.queue.port import Queue
from batchyard.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from batchyard.output.parts import Parts


class JobOutput:
    """The job's output as one worker writes it. Its methods are called by the threads that write, and only there.

    It is opened by the first of them: for a bucket that loads its client, which no handler process has.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._parts: Parts | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether results are kept at all."""
        return self._settings.output is not None

    def write_part(self, index: int, lines: bytes) -> None:
        """Make batch ``index``'s result durable under its own name. Raises OutputUnavailable, OutputInvalid."""
        self._open().write(index, lines)

    def write_closing_files(self, open_handle: Callable[[], Queue]) -> None:
        """Write ``errors.jsonl`` and ``manifest.json`` from the queue; repeating it replaces them.

        Raises OutputUnavailable, OutputInvalid, QueueUnavailable.
        """
        if not self.is_wanted:
            return
        from batchyard.api.status import State
        from batchyard.output.finish import write_errors, write_manifest

        parts, settings = self._open(), self._settings
        with contextlib.closing(open_handle()) as queue:
            state = queue.state()
            write_errors(queue.failed(), settings.job_id, parts)
            write_manifest(
                parts,
                job=settings.job_name,
                job_id=settings.job_id,
                state=State.COMPLETED_WITH_FAILURES if state.counts.failed else State.SUCCEEDED,
                start_time=settings.start_time,
                completion_time=time.time(),
                counts=state.counts,
                items=state.items,
            )

    def _open(self) -> "Parts":
        from batchyard.output.parts import Parts
        from batchyard.storage.door import store_options

        assert self._settings.output is not None  # noqa: S101 - nobody writes without; tells the type checker
        with self._opening:
            if self._parts is None:
                self._parts = Parts(self._settings.output.path, store_options(self._settings.storage))
            return self._parts
