"""What is shown while a job runs: counts, rate, time left, and why nothing moves. Pure: the time is a parameter."""

from collections import deque
from dataclasses import dataclass

from batchyard.queue.port import State

_WINDOW = 15.0  # seconds that the rate looks back
_STALL = 10.0  # seconds without a settled batch before the view says why


@dataclass(frozen=True, slots=True)
class View:
    """One look at a running job. ``rate`` in items a second and ``eta`` in seconds: None while unknown."""

    phase: str
    succeeded: int
    failed: int
    published: int
    total: int | None
    running: int
    items_done: int
    items: int | None
    rate: float | None
    eta: float | None
    elapsed: float
    why: str = ""

    @property
    def settled(self) -> int:
        """Batches that succeeded or failed for good."""
        return self.succeeded + self.failed


class Meter:
    """Turns states into views. ``batch_size``: items of a full batch."""

    def __init__(self, batch_size: int, started: float) -> None:
        self._batch_size = batch_size
        self._started = started
        self._seen: deque[tuple[float, int]] = deque()
        self._settled = -1
        self._moved = started

    def view(self, state: State, now: float, phase: str, why: str = "") -> View:
        """Return the view at ``now``. ``why``: what the processes say keeps the job from moving, if anything."""
        counts = state.counts
        if counts.settled != self._settled:
            self._settled = counts.settled
            self._moved = now
        items_done = min(counts.settled * self._batch_size, state.items if state.items is not None else 1 << 62)
        rate = self._rate(now, items_done)
        eta = None
        if rate and state.items is not None:
            eta = max(0.0, (state.items - items_done) / rate)
        return View(
            phase=phase,
            succeeded=counts.succeeded,
            failed=counts.failed,
            published=counts.published,
            total=state.total,
            running=counts.running,
            items_done=items_done,
            items=state.items,
            rate=rate,
            eta=eta,
            elapsed=now - self._started,
            why=why or self._stall(state, now),
        )

    def _rate(self, now: float, items_done: int) -> float | None:
        seen = self._seen
        if len(seen) == 1 and items_done == seen[0][1]:
            seen.clear()  # nothing is settled yet: the time until now was start-up
        if not seen or now - seen[-1][0] >= 0.5:
            seen.append((now, items_done))
        while len(seen) > 2 and now - seen[1][0] > _WINDOW:
            seen.popleft()
        since, before = seen[0]
        return (items_done - before) / (now - since) if now > since and items_done > before else None

    def _stall(self, state: State, now: float) -> str:
        still = now - self._moved
        counts = state.counts
        if still < _STALL or state.is_over:
            return ""
        if counts.running:
            return f"{counts.running} in work, the last one settled {still:.0f} s ago"
        if counts.published == 0:
            return f"no batch is enqueued yet after {still:.0f} s"
        if counts.pending and not counts.settled:
            return f"the handler is being constructed ({still:.0f} s)"
        if counts.pending:
            return f"{counts.pending} waiting for their next attempt or for more input"
        return (
            f"waiting for the rest of the input ({still:.0f} s)" if not state.sealed else "on_job_complete is running"
        )
