"""What is remembered of a job between two turns, in memory alone: nothing of it is needed after a restart."""

from collections import deque
from dataclasses import dataclass, field

from batchyard.queue.port import FailedBatch, State

from batchyard_operator.model import Sample

HISTORY = 60.0
"""Seconds of history that a turn sees."""

_APART = 1.0  # seconds between two samples


@dataclass(slots=True)
class Memory:
    """One job's. ``uid`` tells it from an earlier job of the same name. Times in unix seconds, 0 for never.

    ``away_since``: since when the queue does not answer. ``lost_since``: since when its streams are not there.
    ``unchanged``: looks in a row at which the queue's ``state`` was the same. ``making_failed``: why the queue could
    not be made, told at the next turn.

    ``applied``: digest of the objects beside the Jobs that were applied last. ``doubt``: pods can't start, so those
    objects are applied again. ``standing``: what was looked at when all children were found as they should be.
    ``apply_error``: what the API server said when it refused children; ``refused``: the digest of those, and when.
    ``trouble_since``: since when it can't be asked at all.

    ``looked_up``: when Events were asked for, ``lookups``: how often in a row; ``refusals``, ``enqueuer_refusals``
    and ``mount_failures`` they are.
    """

    uid: str
    history: deque[Sample] = field(default_factory=deque)
    state: State | None = None
    failed: int = 0
    recent: tuple[FailedBatch, ...] = ()
    away_since: float = 0.0
    lost_since: float = 0.0
    making_failed: str = ""
    applied: str = ""
    doubt: bool = False
    standing: tuple[object, ...] = ()
    unchanged: int = 0
    apply_error: str = ""
    refused: tuple[str, float] = ("", 0.0)
    trouble_since: float = 0.0
    status_written: float = float("-inf")
    looked_up: float = float("-inf")
    lookups: int = 0
    refusals: tuple[str, ...] = ()
    enqueuer_refusals: tuple[str, ...] = ()
    mount_failures: tuple[str, ...] = ()

    def remember(self, now: float, state: State) -> tuple[Sample, ...]:
        """Return the samples of the last minute with the one of this state, oldest first."""
        if not self.history or now - self.history[-1].time >= _APART:
            self.history.append(Sample(now, state.counts.settled, state.counts.running))
        while self.history and now - self.history[0].time > HISTORY:
            self.history.popleft()
        return tuple(self.history)
