"""From the queue's state to what the user of one machine is told: state, reason, sentence, exit code. Pure."""

from dataclasses import dataclass

from batchyard.api.status import Reason
from batchyard.api.status import State as JobState
from batchyard.queue.ending import batches, ending
from batchyard.queue.port import State

SUCCEEDED = 0
FAILED = 1
INVALID = 2
SOME_FAILED = 3
INTERRUPTED = 130

_EXITS = {JobState.SUCCEEDED: SUCCEEDED, JobState.COMPLETED_WITH_FAILURES: SOME_FAILED}


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

    A job whose last batch was settled while it was being stopped has ended, and is told so.
    """
    ended = ending(state)
    if ended is not None:
        return Outcome(ended.state, ended.reason, ended.message, _EXITS.get(ended.state, FAILED))
    counts = state.counts
    if not counts.published:
        left = "no batch was enqueued yet"
    elif state.sealed and counts.settled == counts.published:
        left = "every batch is settled; on_job_complete has not ended"
    else:
        pending = counts.published - counts.settled
        left = f"{pending:,} of the {batches(counts.published)} published so far are not settled"
    if not interrupted:
        return Outcome(JobState.FAILED, Reason.WORKERS_FAILED, left, FAILED)
    return Outcome("Interrupted", "Interrupted", left, INTERRUPTED)
