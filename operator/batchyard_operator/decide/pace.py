"""How fast a job goes and when it ends at that rate, steady enough that a status isn't written for nothing new."""

from datetime import datetime

from batchyard.api.status import BatchCounts

from batchyard_operator.decide.counts import settled
from batchyard_operator.decide.turn import Turn, moment

_SPAN = 5.0  # seconds of history that make a rate
_FULL = 50.0  # seconds of history after which a few batches are enough
_ENOUGH = 10  # batches
_SLACK = 0.1  # part of the time left by which a new estimate must differ
_FARTHEST = 10 * 365 * 86400.0  # seconds; what is further off is no estimate


def pace(turn: Turn, batches: BatchCounts | None) -> tuple[str | None, datetime | None]:
    """Return the rate as text (``12.4/s``, ``30/min``, ``2/h``) and the time of the end; None where unknown.

    What a status shows stays until there is something new to say: while nothing was settled since, as long as the
    last minute still saw batches settle; and an estimate until a new one differs by a tenth of the time left.
    """
    done = settled(batches)
    per_second = _per_second(turn, done)
    rate = None if per_second is None else _text(per_second)
    if turn.before.rate is not None and done == settled(turn.before.batches) and _is_fresh(turn, done):
        rate = turn.before.rate
    if batches is None or batches.total is None or not per_second:
        return rate, None
    left = (batches.total - done) / per_second
    if not 0 < left < _FARTHEST:
        return rate, None
    end = turn.now + left
    was = turn.before.estimated_completion_time
    if was is not None and was.timestamp() > turn.now and abs(was.timestamp() - end) <= _SLACK * left:
        return rate, was
    return rate, moment(-(-end // 10) * 10)


def _window(turn: Turn, done: int) -> tuple[float, int]:
    """Return the seconds that the history spans, and the batches settled in it."""
    if not turn.seen.history:
        return 0.0, 0
    first = turn.seen.history[0]
    return turn.now - first.time, max(0, done - first.settled)


def _is_fresh(turn: Turn, done: int) -> bool:
    span, moved = _window(turn, done)
    return span < _SPAN or moved > 0


def _per_second(turn: Turn, done: int) -> float | None:
    """Return the rate of the last minute; where too little was settled in it, of the whole run."""
    span, moved = _window(turn, done)
    if span >= _SPAN and (moved >= _ENOUGH or (span >= _FULL and moved > 0)):
        return moved / span
    start = turn.started
    if not done or start is None or turn.now - start < _SPAN or turn.going_since > start:
        return None  # over a time in which the job was suspended there is no average
    return done / (turn.now - start)


def _text(per_second: float) -> str | None:
    """Return a rate with its digits cut to three, in the unit in which it is at least one."""
    value, unit = per_second, "s"
    if value < 1:
        value, unit = (value * 60, "min") if value * 60 >= 1 else (value * 3600, "h")
    value = float(f"{value:.3g}" if unit == "s" else f"{value:.2g}")
    text = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    return None if text in ("0", "0.0") else f"{text}/{unit}"
