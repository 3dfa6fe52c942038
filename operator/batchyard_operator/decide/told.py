"""The Events of a turn: one a transition, found by comparing the status to be written with the one that stands."""

from batchyard.api.status import ConditionType, State, Status

from batchyard_operator.decide.turn import cut
from batchyard_operator.model import Told

_ORDER = (State.PENDING, State.ENQUEUING, State.RUNNING, State.COMPLETING)
_BAD = (State.FAILED, State.COMPLETED_WITH_FAILURES)


def told(before: Status, after: Status) -> tuple[Told, ...]:
    """Return what is worth an Event: another state, a resume, another number of workers, a stall or its end."""
    if after.state is None or (before.state is not None and before.state.is_ended):
        return ()
    events = [*_state(before, after.state, after), *_scaled(before, after), *_stalled(before, after)]
    return tuple(Told(event.type, event.reason, cut(event.message)) for event in events)


def _state(before: Status, state: State, after: Status) -> list[Told]:
    was = before.state
    if was is state:
        return []
    if state.is_ended:
        return [
            Told("Warning" if state in _BAD else "Normal", after.reason or state.value, after.message or state.told)
        ]
    if state is State.SUSPENDED:
        return [Told("Normal", state.value, state.told)]
    if was is State.SUSPENDED:
        return [Told("Normal", "Resumed", f"spec.suspend is false: {after.progress or 'no'} batches are settled.")]
    if was is None or (was in _ORDER and _ORDER.index(was) > _ORDER.index(state)):
        return []  # a step back is an enqueuer that starts anew: nothing to tell again
    return [Told("Normal", state.value, state.told)] if state is not State.PENDING else []


def _scaled(before: Status, after: Status) -> list[Told]:
    was = before.workers.desired if before.workers else 0
    wanted = after.workers.desired if after.workers else 0
    if not was or not wanted or was == wanted:  # it starts, ends, is suspended or resumed: told already
        return []
    return [Told("Normal", "Scaled", f"The number of workers goes from {was:,} to {wanted:,}.")]


def _stalled(before: Status, after: Status) -> list[Told]:
    was, stands = _stall_of(before), _stall_of(after)
    if stands is not None and was is None:
        return [Told("Warning", *stands)]
    if was is not None and stands is None and after.state is not None and after.state in _ORDER:
        return [Told("Normal", "NotStalled", f"It goes on; it was stalled by {was[0]}.")]
    return []


def _stall_of(status: Status) -> tuple[str, str] | None:
    for condition in status.conditions:
        if condition.type is ConditionType.STALLED and condition.status == "True":
            return condition.reason, condition.message
    return None
