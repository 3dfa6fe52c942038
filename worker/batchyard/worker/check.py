"""Constructs one handler process and lets it go: what ``--dry-run`` knows of a handler without running a batch."""

import selectors
import sys
import time

from batchyard.worker.facts import child_init, job_spec
from batchyard.worker.loop import EXIT_DONE, EXIT_FAILED, EXIT_INVALID
from batchyard.worker.pool import Pool
from batchyard.worker.settings import WorkerSettings
from batchyard.worker.tags import Line


def check(settings: WorkerSettings) -> int:
    """Return 0 when the handler stands; else say why on stderr and return 64 (invalid) or 1."""

    def print_line(_process: int, _stream: str, line: Line) -> None:
        sys.stdout.write(line.text + "\n")

    def say(_level: str, message: str) -> None:
        sys.stdout.write(message + "\n")

    selector = selectors.DefaultSelector()
    pool = Pool(1, 1, child_init(settings), None, selector, print_line, say, settings.worker, patience=1)
    # a handler that asks for job_spec gets one with the counts a dry run cannot know
    pool.job_spec = job_spec(settings, batches=0, items=0)
    while pool.refused is None and not pool.ready:
        pool.tick(time.monotonic())
        for key, mask in selector.select(0.05):
            key.data(mask)
    stood = pool.refused is None
    pool.give_up()
    while not pool.is_empty:
        for key, mask in selector.select(0.05):
            key.data(mask)
        pool.tick(time.monotonic())
    if stood:
        return EXIT_DONE
    assert pool.refused is not None  # noqa: S101 - just seen
    sys.stderr.write(pool.refused.message + "\n")
    return EXIT_INVALID if pool.refused.reason else EXIT_FAILED
