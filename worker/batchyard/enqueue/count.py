"""What an input holds, told without a queue: the same path that enqueues, for ``--dry-run``."""

from dataclasses import dataclass

from batchyard.enqueue.publish import nothing_in
from batchyard.enqueue.settings import EnqueueSettings
from batchyard.enqueue.sources import source_of
from batchyard.enqueue.split import InputInvalid, split

SHOWN = 10
"""Malformed lines that are told in full."""


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What enqueuing would do.

    ``items`` and ``batches`` count malformed lines too, as the job would. ``files``: files read or listed; 0 for
    inline items. ``bytes``: bytes of all items as JSON. ``largest_batch_bytes``: the largest queue message.
    ``malformed``: the first messages; ``malformed_count``: all of them.
    """

    items: int
    batches: int
    files: int
    bytes: int
    malformed: list[str]
    malformed_count: int
    largest_batch_bytes: int


def count(settings: EnqueueSettings, limit: int | None = None) -> InputFacts:
    """Read the whole input and return its facts. ``limit``: the queue's ``max_body``, when known.

    Malformed lines are told in the facts. Raises InputInvalid for everything else that would fail the job.
    """
    source = source_of(settings)
    items = batches = total = largest = malformed_count = 0
    malformed: list[str] = []
    for batch in split(source.runs(), settings.batch_size, limit=limit):
        batches += 1
        items = batch.end
        total += len(batch.body) - batch.body.index(b"\n") - 1
        largest = max(largest, len(batch.body))
        if batch.header.invalid is not None:
            malformed_count += 1
            malformed.extend([batch.header.invalid] if len(malformed) < SHOWN else [])
    if not batches and not settings.allow_empty:
        raise InputInvalid(nothing_in(settings, source))
    return InputFacts(items, batches, source.files, total, malformed, malformed_count, largest)
