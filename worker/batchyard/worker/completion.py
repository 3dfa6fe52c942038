"""What a worker writes to the job's output: parts while it runs, and the files that close it."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from batchyard.queue.port import Queue, State
from batchyard.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from batchyard.output.parts import Parts
    from batchyard.storage.work import LargeBatches

_OTHERS_LEAVE = 15.0  # seconds; a worker gives the running batches of a halted job 5 of them


class JobOutput:
    """The job's output as one worker writes it. Its methods are called by the threads that write, and only there.

    It is opened by the first of them: for a bucket that loads its client, which no handler process has.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._parts: Parts | None = None
        self._large: LargeBatches | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether results are kept at all."""
        return self._settings.output is not None

    def write_part(self, index: int, lines: bytes) -> None:
        """Make batch ``index``'s result durable under its own name. Raises OutputUnavailable, OutputInvalid."""
        self._open().write(index, lines)

    def write_closing_files(self, open_handle: Callable[[], Queue]) -> None:
        """Write ``errors.jsonl`` and ``manifest.json`` from the queue, and clear the work prefix; may be repeated.

        Raises OutputUnavailable, OutputInvalid, QueueUnavailable, StorageUnavailable.
        """
        if not (self.is_wanted or self._settings.storage.work):
            return
        from batchyard.api.status import State as JobState

        with contextlib.closing(open_handle()) as queue:
            state = queue.state()
            ended = JobState.COMPLETED_WITH_FAILURES if state.counts.failed else JobState.SUCCEEDED
            if self.is_wanted:
                self._close(queue, state, ended)
            if self._settings.storage.work:
                self._sweep(queue)

    def write_halted_files(self, open_handle: Callable[[], Queue]) -> None:
        """Write what ``write_closing_files`` does for a job that was halted, once no worker holds a batch any more.

        Not to an output that is not this job's: it may have been halted for that. Raises OutputUnavailable,
        OutputInvalid, QueueUnavailable, QueueLost, StorageUnavailable.
        """
        if not self.is_wanted:
            return
        from batchyard.output.owner import is_owned_by
        from batchyard.queue.ending import ending

        with contextlib.closing(open_handle()) as queue:
            until = time.monotonic() + _OTHERS_LEAVE
            while (state := queue.state()).counts.running and time.monotonic() < until:
                time.sleep(0.2)
            ended = ending(state)
            if ended is not None and is_owned_by(self._open(), self._settings.job_id):
                self._close(queue, state, ended.state)

    def _close(self, queue: Queue, state: State, ended: str) -> None:
        from batchyard.output.finish import write_errors, write_manifest

        parts, settings = self._open(), self._settings
        large = self.open_large() if settings.storage.work else None
        write_errors(queue.failed(), settings.job_id, parts, large)
        write_manifest(
            parts,
            job=settings.job_name,
            job_id=settings.job_id,
            state=ended,
            start_time=settings.start_time,
            completion_time=time.time(),
            counts=state.counts,
            items=state.items,
        )

    def open_large(self) -> "LargeBatches":
        """Return the batches that lie in the work prefix. Raises StorageRefused, also when the job has no prefix."""
        from batchyard.storage.port import StorageRefused
        from batchyard.storage.work import LargeBatches

        if not self._settings.storage.work:
            raise StorageRefused("this worker was told no work prefix, and the batch's items lie in one.")
        with self._opening:
            if self._large is None:
                self._large = LargeBatches(self._settings.storage, self._settings.job_id)
            return self._large

    def _sweep(self, queue: Queue) -> None:
        """Remove what succeeded batches left in the work prefix; a job does not fail for a role that may not."""
        from batchyard.storage.port import StorageRefused, StorageUnavailable

        with contextlib.suppress(StorageRefused, StorageUnavailable):
            self.open_large().sweep(lambda: (batch.index for batch in queue.failed()))

    def _open(self) -> "Parts":
        from batchyard.output.parts import Parts
        from batchyard.storage.door import store_options

        assert self._settings.output is not None  # noqa: S101 - nobody writes without; tells the type checker
        with self._opening:
            if self._parts is None:
                self._parts = Parts(self._settings.output.path, store_options(self._settings.storage))
            return self._parts
