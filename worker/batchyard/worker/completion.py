"""What a worker writes to the job's output: parts while it runs, and the files that close it."""

from collections.abc import Callable

from batchyard.queue.port import Queue
from batchyard.worker.settings import WorkerSettings


def write_part(settings: WorkerSettings, index: int, lines: bytes) -> None:
    """Make batch ``index``'s result durable under its own name. Raises OutputUnavailable."""
    if settings.output is not None:
        from batchyard.output.parts import Parts

        Parts(settings.output.path).write(index, lines)


def write_closing_files(settings: WorkerSettings, open_handle: Callable[[], Queue]) -> None:
    """Write ``errors.jsonl`` and ``manifest.json``; repeating it writes the same. Raises OutputUnavailable."""
    if settings.output is None:
        return
