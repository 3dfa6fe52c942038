"""How fast a job goes and when it ends at that rate, steady enough that a status isn't written for nothing new."""

from datetime import datetime

from batchyard.api.status import BatchCounts

from batchyard_operator.decide.counts import settled
from batchyard_operator.decide.turn import Turn, moment

_SPAN = 5.0  # seconds of history that make a rate
_FULL = 50.0  # seconds of history after which a few batches are enough
_ENOUGH = 10  # batches
_SLACK = 0.1  # part of itself by which a new rate, or time left, must differ
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_FARTHEST = 10 * 365 * 86400.0  # seconds; what is further off is no estimate


def pace(turn: Turn, batches: BatchCounts | None) -> tuple[str | None, datetime | None]:
    """Return the rate as text (``12.4/s``, ``30/min``, ``2/h``) and the time of the end; None where unknown.

    What a status shows stays until there is something new to say: while nothing was settled since, as long as the
    last minute still saw batches settle; and else until it differs by a tenth.
    """
    done, was = settled(batches), turn.before
    end_then = was.estimated_completion_time
    is_to_come = end_then is not None and end_then.timestamp() > turn.now
    is_still = done == settled(was.batches) and was.rate is not None and _is_fresh(turn, done)
    if is_still and (is_to_come or end_then is None):
        return was.rate, end_then
    per_second = _per_second(turn, done)
    if not per_second:
        return None, None
    shown = _read(was.rate)
    rate = was.rate if abs(shown - per_second) <= _SLACK * per_second else _text(per_second)
    if batches is None or batches.total is None:
        return rate, None
    left = (batches.total - done) / per_second
    if not 0 < left < _FARTHEST:
        return rate, None
    end = turn.now + left
    if end_then is not None and is_to_come and abs(end_then.timestamp() - end) <= _SLACK * left:
        return rate, end_then
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


def _read(rate: str | None) -> float:
    """Return a rate as it was written, in batches a second; 0 for none, or what we don't write."""
    value, _, unit = (rate or "").partition("/")
    try:
        return float(value) / _UNITS[unit]
    except (ValueError, KeyError):
        return 0.0


def _text(per_second: float) -> str | None:
    """Return a rate with its digits cut to three, in the unit in which it is at least one."""
    unit = next((unit for unit, seconds in _UNITS.items() if per_second * seconds >= 1), "h")
    value = per_second * _UNITS[unit]
    value = float(f"{value:.3g}" if unit == "s" else f"{value:.2g}")
    text = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    return None if text in ("0", "0.0") else f"{text}/{unit}"
