"""How a job ended, as its queue tells it. Apart because a cluster says it in the words of one machine."""

from dataclasses import dataclass

from batchyard.api.status import Reason
from batchyard.api.status import State as JobState
from batchyard.queue.port import Completion, State


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended. ``reason`` is one of ``batchyard.api.status.Reason``; ``message`` is for a person."""

    state: JobState
    reason: str
    message: str


def ending(state: State) -> Ending | None:
    """Return how the job ended, None while its queue is not over.

    A failed ``on_job_complete`` fails the job: its results are all there and its counts stay, but what the handler
    was to do with them is not done, and whoever goes on after a success must not miss that.
    """
    counts = state.counts
    if state.halt is not None:
        is_cancelled = state.halt.reason == Reason.CANCELLED
        return Ending(JobState.CANCELLED if is_cancelled else JobState.FAILED, state.halt.reason, state.halt.message)
    if state.completion is Completion.FAILED:
        failure = state.completion_failure
        error = f": {failure.error}" if failure else ""
        message = f"every batch is settled, but on_job_complete failed for good{error}"
        return Ending(JobState.FAILED, Reason.ON_JOB_COMPLETE_FAILED, message)
    if state.completion is not Completion.SUCCEEDED:
        return None
    if counts.failed:
        message = f"{counts.failed} of {batches(counts.published)} failed for good"
        return Ending(JobState.COMPLETED_WITH_FAILURES, Reason.SOME_BATCHES_FAILED, message)
    return Ending(JobState.SUCCEEDED, Reason.ALL_BATCHES_SUCCEEDED, f"{batches(counts.published)} succeeded")


def batches(number: int) -> str:
    """Return ``1 batch`` or ``12,000 batches``."""
    return "1 batch" if number == 1 else f"{number:,} batches"
