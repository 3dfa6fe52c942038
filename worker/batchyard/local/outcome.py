"""From the queue's state to what the user is told: state, reason, sentence, exit code. Pure."""

from dataclasses import dataclass

from batchyard.api.status import Reason
from batchyard.api.status import State as JobState
from batchyard.queue.port import Completion, State

SUCCEEDED = 0
FAILED = 1
INVALID = 2
SOME_FAILED = 3
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``state`` and ``reason`` are those of a BatchJob's status; ``message`` is for a person.

    ``exit_code``: 0 all succeeded, 3 some batches failed, 1 the job failed, 130 interrupted.
    """

    state: str
    reason: str
    message: str
    exit_code: int


def outcome(state: State, *, interrupted: bool = False) -> Outcome:
    """Return the outcome of a run whose processes are gone.

    A job whose last batch was settled while it was being stopped has ended, and is told so. A failed
    ``on_job_complete`` fails the job: its results are all there and its counts stay, but what the handler was to do
    with them is not done, and a script that goes on after exit code 0 must not miss that.
    """
    counts = state.counts
    if state.halt is not None:
        return Outcome(JobState.FAILED, state.halt.reason, state.halt.message, FAILED)
    if state.completion is Completion.FAILED:
        failure = state.completion_failure
        error = f": {failure.error}" if failure else ""
        message = f"every batch is settled, but on_job_complete failed for good{error}"
        return Outcome(JobState.FAILED, Reason.ON_JOB_COMPLETE_FAILED, message, FAILED)
    if state.completion is Completion.SUCCEEDED:
        if counts.failed:
            message = f"{counts.failed} of {_batches(counts.published)} failed for good"
            return Outcome(JobState.COMPLETED_WITH_FAILURES, Reason.SOME_BATCHES_FAILED, message, SOME_FAILED)
        return Outcome(
            JobState.SUCCEEDED, Reason.ALL_BATCHES_SUCCEEDED, f"{_batches(counts.published)} succeeded", SUCCEEDED
        )
    if not counts.published:
        left = "no batch was enqueued yet"
    elif state.sealed and counts.settled == counts.published:
        left = "every batch is settled; on_job_complete has not ended"
    else:
        pending = counts.published - counts.settled
        left = f"{pending:,} of the {_batches(counts.published)} published so far are not settled"
    if not interrupted:
        return Outcome(JobState.FAILED, Reason.WORKERS_FAILED, left, FAILED)
    return Outcome("Interrupted", "Interrupted", left, INTERRUPTED)


def _batches(number: int) -> str:
    return "1 batch" if number == 1 else f"{number:,} batches"
