"""The counts that a status shows, and why they never go back.

The queue may say one too few for an instant (a batch is written down as failed before it leaves the queue), and a new
connection to it knows nothing of what an older one saw; it never says too many. What a status showed was therefore
true when it was written, and settled batches stay settled: the larger of both is the newer truth, for successes and
failures each. The rest is what remains, so the four always add up to what was queued.
"""

from typing import Any

from batchyard.api.status import BatchCounts, Status
from batchyard.queue.port import State


def shown(state: State | None, before: Status) -> BatchCounts | None:
    """Return the counts to show; without a look at the queue those that stand."""
    if state is None:
        return before.batches
    counts, was = state.counts, before.batches or BatchCounts()
    succeeded, failed = max(counts.succeeded, was.succeeded), max(counts.failed, was.failed)
    if succeeded + failed > counts.published:  # what stands was never shown by us of this queue
        succeeded, failed = counts.succeeded, counts.failed
    left = counts.published - succeeded - failed
    running = min(counts.running, left)
    made: dict[str, Any] = {"succeeded": succeeded, "failed": failed, "running": running, "pending": left - running}
    if state.total is not None:
        made["total"] = state.total
    return BatchCounts.model_validate(made)


def left_behind(batches: BatchCounts | None) -> BatchCounts | None:
    """Return the counts of a job without workers: what their leases still hold is in nobody's hands."""
    if batches is None:
        return None
    return batches.model_copy(update={"running": 0, "pending": batches.pending + batches.running})


def settled(batches: BatchCounts | None) -> int:
    """Return how many batches are settled."""
    return batches.succeeded + batches.failed if batches else 0


def progress(batches: BatchCounts | None) -> str | None:
    """Return ``529/1000``, or ``529/?`` while the input is being cut and nobody knows how many there will be."""
    if batches is None:
        return None
    return f"{settled(batches)}/{'?' if batches.total is None else batches.total}"
