"""The status that a turn writes: built whole from what is seen, so that a turn with nothing new builds the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from batchyard.api.status import BatchCounts, Condition, ConditionType, FailureSummary, State, Status

from batchyard_operator.decide import counts
from batchyard_operator.decide.pace import pace
from batchyard_operator.decide.stalls import Stall
from batchyard_operator.decide.turn import Turn, cut, moment

_FAILURES = 10
_ERROR = 300  # characters of a failure's error
_MOVING = (State.ENQUEUING, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands: its state, and why. ``stall``: why it makes no progress, where it doesn't."""

    state: State
    reason: str | None = None
    message: str | None = None
    stall: Stall | None = None


def built(turn: Turn, now_at: Standing, *, started: datetime | None = None) -> Status:
    """Return the whole status of a job that stands so; ``started`` where that is told for the first time."""
    state, batches = now_at.state, _batches(turn, now_at.state)
    rate, end = (None, None) if state not in _MOVING or now_at.stall else pace(turn, batches)
    completion = (turn.before.completion_time or moment(turn.now)) if state.is_ended else None
    stall = now_at.stall
    return made(
        {
            "observedGeneration": turn.seen.job.generation,
            "state": state,
            "reason": now_at.reason or (stall.reason if stall else None),
            "message": cut(now_at.message or (stall.message if stall else "")) or None,
            "startTime": turn.before.start_time or started,
            "completionTime": completion,
            "batches": batches,
            "workers": _workers(turn, state),
            "progress": counts.progress(batches),
            "rate": rate,
            "estimatedCompletionTime": end,
            "failures": _failures(turn),
            "conditions": _conditions(turn, now_at, batches),
        }
    )


def followed(turn: Turn) -> Status:
    """Return the status of an ended job: what it ended as stays, and its last batches and workers are still counted.

    Workers that leave a halted job settle what they have in hand. Only the generation moves with the spec.
    """
    before, generation = turn.before, turn.seen.job.generation
    batches = _batches(turn, before.state or State.FAILED)
    told = {
        "observed_generation": generation,
        "completion_time": before.completion_time or moment(turn.now),
        "batches": batches,
        "workers": Status.model_validate({"workers": _workers(turn, before.state or State.FAILED)}).workers,
        "progress": counts.progress(batches),
        "failures": _failures(turn),
        "conditions": [c.model_copy(update={"observed_generation": generation}) for c in before.conditions],
    }
    return before.model_copy(update=told)


def made(fields: Mapping[str, Any]) -> Status:
    """Return a status from its fields as manifests write them, those that are None left out."""
    return Status.model_validate({name: value for name, value in fields.items() if value is not None})


def dumped(status: Status) -> dict[str, Any]:
    """Return a status as the API server keeps it."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _batches(turn: Turn, state: State) -> BatchCounts | None:
    found = counts.shown(turn.queue, turn.before)
    return counts.left_behind(found) if state.is_ended and not turn.alive else found


def _workers(turn: Turn, state: State) -> dict[str, int]:
    job = turn.seen.job.job
    rests = state.is_ended or state is State.SUSPENDED or job is None
    ready = sum(pod.is_ready and not pod.is_deleting for pod in turn.pods("worker"))
    return {"desired": 0 if rests or job is None else job.spec.workers, "ready": ready}


def _failures(turn: Turn) -> list[FailureSummary]:
    """Return the newest failures; those that stand while the queue can't be asked."""
    if turn.queue is None:
        return turn.before.failures
    return [
        FailureSummary.model_validate(
            {
                "batch": batch.index,
                "attempts": batch.attempts,
                "reason": batch.failure.reason,
                "error": cut(batch.failure.error, _ERROR),
                "time": moment(batch.failure.time),
            }
        )
        for batch in turn.seen.queue.recent[:_FAILURES]
    ]


def _conditions(turn: Turn, now_at: Standing, batches: BatchCounts | None) -> list[Condition]:
    """Return every condition; its time moves only when its answer flips."""
    state, reason, message = now_at.state, now_at.reason or now_at.state.value, cut(now_at.message or "")
    stall = now_at.stall
    is_enqueued = batches is not None and batches.total is not None
    is_complete = state in (State.SUCCEEDED, State.COMPLETED_WITH_FAILURES)
    answers: list[tuple[ConditionType, bool, str, str]] = [
        (ConditionType.ENQUEUED, is_enqueued, "AllBatchesQueued", ""),
        (ConditionType.COMPLETE, is_complete, reason, message),
        (ConditionType.FAILED, state is State.FAILED, reason, message),
        (ConditionType.SUSPENDED, state is State.SUSPENDED, reason, message),
        (ConditionType.STALLED, stall is not None, stall.reason if stall else "", stall.message if stall else ""),
    ]
    stood = {condition.type: condition for condition in turn.before.conditions}
    found = []
    for kind, is_true, why, said in answers:
        answer, was = ("True" if is_true else "False"), stood.get(kind)
        time = was.last_transition_time if was is not None and was.status == answer else moment(turn.now)
        fields = {
            "type": kind,
            "status": answer,
            "reason": why if is_true else state.value,
            "message": said if is_true else "",
            "lastTransitionTime": time,
            "observedGeneration": turn.seen.job.generation,
        }
        found.append(Condition.model_validate(fields))
    return found
