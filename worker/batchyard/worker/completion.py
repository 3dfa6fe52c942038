"""What a worker writes to the job's output: parts while it runs, and the files that close it."""

import contextlib
import time
from collections.abc import Callable

from batchyard.queue.port import Queue
from batchyard.worker.settings import WorkerSettings


def write_part(settings: WorkerSettings, index: int, lines: bytes) -> None:
    """Make batch ``index``'s result durable under its own name. Raises OutputUnavailable."""
    if settings.output is not None:
        from batchyard.output.parts import Parts

        Parts(settings.output.path).write(index, lines)


def write_closing_files(settings: WorkerSettings, open_handle: Callable[[], Queue]) -> None:
    """Write ``errors.jsonl`` and ``manifest.json`` from the queue; repeating it replaces them.

    Raises OutputUnavailable, QueueUnavailable.
    """
    if settings.output is None:
        return
    from batchyard.api.status import State
    from batchyard.output.finish import write_errors, write_manifest
    from batchyard.output.parts import Parts

    parts = Parts(settings.output.path)
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
