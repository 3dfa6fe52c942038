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
    ``making_failed``: why the queue could not be made, told at the next turn. ``trouble``: what the API server said
    when children could not be applied, and ``trouble_since`` when that began. ``applied``: digest of the objects
    beside the workers' Job that were applied last. ``refused``: the digest of what was refused last, and when.
    """

    uid: str
    history: deque[Sample] = field(default_factory=deque)
    failed: int = 0
    recent: tuple[FailedBatch, ...] = ()
    away_since: float = 0.0
    lost_since: float = 0.0
    making_failed: str = ""
    applied: str = ""
    apply_error: str = ""
    refused: tuple[str, float] = ("", 0.0)
    trouble_since: float = 0.0
    status_written: float = float("-inf")
    looked_up: float = float("-inf")
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
