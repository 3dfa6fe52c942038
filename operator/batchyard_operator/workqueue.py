"""The work queue: one entry a key, never two turns of a key at once; apart because it knows nothing of jobs.

The shape of controller-runtime's queue. ``Schedule`` decides and has no clock: the time is a parameter, seconds that
never go back. ``WorkQueue`` runs a fixed number of workers over it.
"""

import asyncio
import heapq
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from batchyard.api.errors import TransientError

K = TypeVar("K", bound=Hashable)

BACKOFF_FIRST = 0.5
BACKOFF_MOST = 30.0
_FAIR = 4  # one turn in so many goes to the ordinary lane, however full the other is

log = logging.getLogger(__name__)


class Schedule(Generic[K]):
    """Which key has its turn next.

    A key is in one place: in a lane (its turn is due), in a turn, or neither; and it may have a time at which it is
    looked at again. A key that is added during its turn has another one after it. A turn sees everything, so its
    beginning forgets the time that stood before.
    """

    def __init__(self) -> None:
        self._urgent: OrderedDict[K, float] = OrderedDict()  # the values: since when each is due
        self._ordinary: OrderedDict[K, float] = OrderedDict()
        self._turns: dict[K, float] = {}
        self._again: dict[K, bool] = {}  # added during its turn; the value: urgently
        self._times: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._numbers = itertools.count()
        self._failures: dict[K, int] = {}
        self._taken = 0
        self._moved = 0.0  # when a turn began last

    def add(self, key: K, now: float, *, urgent: bool = False) -> None:
        """Let a key have a turn. ``urgent``: before those that are not."""
        if key in self._turns:
            self._again[key] = self._again.get(key, False) or urgent
        elif key in self._urgent:
            return
        elif urgent:
            self._urgent[key] = self._ordinary.pop(key, now)
        else:
            self._ordinary.setdefault(key, now)

    def add_at(self, key: K, due: float) -> None:
        """Let a key have a turn at a time, or before if it is to have one before already."""
        if due < self._times.get(key, float("inf")):
            self._times[key] = due
            heapq.heappush(self._heap, (due, next(self._numbers), key))
            if len(self._heap) > 2 * len(self._times) + 64:  # most are of times that are forgotten
                self._heap = [(at, n, k) for at, n, k in self._heap if self._times.get(k) == at]
                heapq.heapify(self._heap)

    def add_failed(self, key: K, now: float) -> float:
        """Let a key whose turn failed have another one after a while; return the seconds, twice those before."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(failures, 16))
        self.add_at(key, now + delay)
        return delay

    def succeeded(self, key: K) -> None:
        """Forget how often a key's turn failed."""
        self._failures.pop(key, None)

    def take(self, now: float) -> K | None:
        """Begin the next turn and return its key; None when none is due."""
        while (due := self.next_time()) is not None and due <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._times[key]
            self.add(key, now)
        self._taken += 1
        lanes = (self._urgent, self._ordinary) if self._taken % _FAIR else (self._ordinary, self._urgent)
        for lane in lanes:
            if lane:
                key, _ = lane.popitem(last=False)
                self._times.pop(key, None)
                self._turns[key] = self._moved = now
                return key
        return None

    def done(self, key: K, now: float) -> None:
        """End a key's turn."""
        del self._turns[key]
        if (urgent := self._again.pop(key, None)) is not None:
            self.add(key, now, urgent=urgent)

    def forget(self, key: K) -> None:
        """Forget the time at which a key is to be looked at, and its failures: it is gone."""
        self._times.pop(key, None)
        self._failures.pop(key, None)

    def next_time(self) -> float | None:
        """Return the earliest time at which a key is to be looked at."""
        while self._heap and self._times.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def longest_wait(self, now: float) -> float:
        """Return for how many seconds a key has been due and none got its turn.

        Where turns begin, if slowly (each may wait for a server that doesn't answer), nobody is forgotten.
        """
        firsts = [next(iter(lane.values())) for lane in (self._urgent, self._ordinary) if lane]
        return max((now - max(since, self._moved) for since in firsts), default=0.0)

    def longest_turn(self, now: float) -> float:
        """Return for how many seconds the longest turn under way runs."""
        return max((now - since for since in self._turns.values()), default=0.0)


class WorkQueue(Generic[K]):
    """Runs turns of keys, a few at once, until stopped. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.schedule: Schedule[K] = Schedule()
        self._clock = clock
        self._pulse = asyncio.Event()
        self._stopping = False

    def add(self, key: K, *, urgent: bool = False) -> None:
        """Let a key have a turn as soon as a worker is free."""
        self.schedule.add(key, self._clock(), urgent=urgent)
        self._pulse.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Let a key have a turn in a while, or before if it is to have one before already."""
        self.schedule.add_at(key, self._clock() + seconds)
        self._pulse.set()

    def forget(self, key: K) -> None:
        """Forget a key that is gone."""
        self.schedule.forget(key)

    def longest(self) -> float:
        """Return the seconds of the longest turn under way or, if longer, for which keys wait and none got a turn."""
        now = self._clock()
        return max(self.schedule.longest_wait(now), self.schedule.longest_turn(now))

    def stop(self) -> None:
        """Begin no more turns; ``run`` ends when those under way have."""
        self._stopping = True
        self._pulse.set()

    async def run(self, workers: int, turn: Callable[[K], Awaitable[float | None]]) -> None:
        """Run turns, at most so many at once, until stopped.

        ``turn`` returns the seconds after which its key is to be looked at again, None for when something happens.
        One that raises is logged and repeated after a while, each time twice that while. Cancelled, it cancels the
        turns under way.
        """
        under_way: set[asyncio.Task[None]] = set()

        def ended(task: asyncio.Task[None]) -> None:
            under_way.discard(task)
            self._pulse.set()

        try:
            while not self._stopping:
                self._pulse.clear()
                while len(under_way) < workers and (key := self.schedule.take(self._clock())) is not None:
                    under_way.add(task := asyncio.create_task(self._turn(key, turn)))
                    task.add_done_callback(ended)
                due = self.schedule.next_time() if len(under_way) < workers else None
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._pulse.wait(), None if due is None else max(0.0, due - self._clock()))
            if under_way:
                await asyncio.wait(under_way)
        finally:
            for task in under_way:
                task.cancel()

    async def _turn(self, key: K, turn: Callable[[K], Awaitable[float | None]]) -> None:
        try:
            again = await turn(key)
        except TransientError as error:
            delay = self.schedule.add_failed(key, self._clock())
            log.warning("%s: %s; next try in %.1f s", key, error, delay)
        except Exception:
            delay = self.schedule.add_failed(key, self._clock())
            log.exception("%s: the turn failed; next try in %.1f s", key, delay)
        else:
            self.schedule.succeeded(key)
            if again is not None:
                self.schedule.add_at(key, self._clock() + again)
        finally:
            self.schedule.done(key, self._clock())
