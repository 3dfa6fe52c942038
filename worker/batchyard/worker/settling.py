"""The two threads of a worker that talk to the queue, so that a slow or absent queue never delays a time-out.

The receiver takes batches and looks at the state; the settler settles them and extends leases. Both put what they
find into the loop's inbox and wake it. Each has its own handle, as the port asks.
"""

import queue as queues
import random
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from batchyard.queue.port import COMPLETION, Delivery, Failure, Queue, QueueLost, QueueUnavailable, State
from batchyard.worker import core
from batchyard.worker.core import Ack, Bury, Release, Retry, Settlement
from batchyard.worker.settings import ThresholdSettings

_LOOK_SECONDS = 0.2
_TOGETHER = 1000  # settled in one transaction: it stays short


@dataclass(frozen=True, slots=True)
class Received:
    """Batches, or the completion token, under our lease."""

    deliveries: list[Delivery]


@dataclass(frozen=True, slots=True)
class Looked:
    """A look at the queue's state."""

    state: State


@dataclass(frozen=True, slots=True)
class Settled:
    """A delivery is out of our hands. ``ours`` is False when its lease had passed to somebody else."""

    delivery: Delivery
    settlement: Settlement
    ours: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    """The queue is away (``fatal`` False: waiting for it) or gone."""

    message: str
    fatal: bool


Event = Received | Looked | Settled | Trouble


T = TypeVar("T")


class _QueueThread(threading.Thread):
    """What both threads share: a handle opened in the thread, patience with an absent queue, a loud end."""

    def __init__(self, name: str, open_handle: Callable[[], Queue], say: Callable[[Event], None]) -> None:
        super().__init__(name=f"batchyard-{name}", daemon=True)
        self._open = open_handle
        self._say = say
        self._stop_asked = threading.Event()
        self._queue: Queue

    def run(self) -> None:
        """Open the handle and serve until stopped; what goes wrong for good is said, never swallowed."""
        try:
            handle = self._patiently(self._open)
            if handle is None:
                return
            self._queue = handle
            try:
                self._serve()
            finally:
                self._queue.close()
        except QueueLost as error:
            self._say(Trouble(str(error), fatal=True))
        except Exception:  # a bug of ours must end the worker, not leave it waiting for a dead thread
            self._say(Trouble(traceback.format_exc(), fatal=True))
            raise

    def _serve(self) -> None:
        raise NotImplementedError

    def _patiently(self, call: Callable[[], T]) -> T | None:
        """Return what ``call`` returns, trying again while the queue is unavailable; None once stopped."""
        attempt = 0
        while True:
            try:
                return call()
            except QueueUnavailable as error:
                self._say(Trouble(str(error), fatal=False))
                attempt += 1
                pause = min(5.0, 0.05 * 2.0 ** min(attempt, 10)) * (0.5 + random.random() / 2)  # noqa: S311 - jitter
                if self._stop_asked.wait(pause):
                    return None

    def _judge(self, state: State, threshold: ThresholdSettings) -> State:
        """Halt the job when its errorThreshold is passed; return the state to go on with."""
        sentence = None if state.halt else core.threshold_passed(threshold, state)
        if sentence is None:
            return state
        self._patiently(lambda: self._queue.halt("ErrorThresholdExceeded", sentence))
        return self._patiently(self._queue.state) or state


class Receiver(_QueueThread):
    """Takes batches when asked, one request at a time, and looks at the state in between."""

    def __init__(
        self,
        open_handle: Callable[[], Queue],
        say: Callable[[Event], None],
        lease: float,
        threshold: ThresholdSettings,
    ) -> None:
        super().__init__("receiver", open_handle, say)
        self._lease = lease
        self._threshold = threshold
        self._requests: queues.SimpleQueue[int] = queues.SimpleQueue()

    def request(self, limit: int) -> None:
        """Ask for up to ``limit`` batches; answered by exactly one ``Received``, which may be empty."""
        self._requests.put(limit)

    def stop(self) -> None:
        """Take nothing more; an answer under way still comes."""
        self._stop_asked.set()
        self._requests.put(0)

    def _serve(self) -> None:
        last_look = 0.0
        while not self._stop_asked.is_set():
            try:
                limit = self._requests.get(timeout=_LOOK_SECONDS)
            except queues.Empty:
                limit = 0
            if limit:
                found = self._patiently(lambda n=limit: self._queue.receive(n, self._lease, _LOOK_SECONDS))  # type: ignore[misc]  # mypy does not infer a lambda with a default
                if found or time.monotonic() - last_look < _LOOK_SECONDS:
                    self._say(Received(found or []))
                    if found:
                        continue
                else:
                    self._look(may_complete=True)
                    last_look = time.monotonic()
            elif time.monotonic() - last_look >= _LOOK_SECONDS:
                self._look(may_complete=False)
                last_look = time.monotonic()

    def _look(self, *, may_complete: bool) -> None:
        """Look at the state; with a request open, answer it, by the completion token when its time has come."""
        state = self._patiently(self._queue.state)
        token: Delivery | None = None
        if state is not None:
            state = self._judge(state, self._threshold)
            self._say(Looked(state))
            due = state.sealed and not state.is_over and state.counts.settled == state.total
            if may_complete and due and not self._stop_asked.is_set():
                token = self._patiently(lambda: self._queue.receive_completion(self._lease))
        if may_complete:
            self._say(Received([token] if token else []))


class Settler(_QueueThread):
    """Settles what it is handed, together where it can, and extends the leases of everything held."""

    def __init__(
        self,
        open_handle: Callable[[], Queue],
        say: Callable[[Event], None],
        lease: float,
        threshold: ThresholdSettings,
    ) -> None:
        super().__init__("settler", open_handle, say)
        self._lease = lease
        self._threshold = threshold
        self._todo: queues.SimpleQueue[tuple[Delivery, Settlement] | None] = queues.SimpleQueue()
        self._held: dict[Hashable, Delivery] = {}
        self._held_lock = threading.Lock()

    def hold(self, deliveries: list[Delivery]) -> None:
        """Extend these leases from now until they are settled."""
        with self._held_lock:
            self._held.update((d.lease, d) for d in deliveries)

    def settle(self, delivery: Delivery, settlement: Settlement) -> None:
        """Settle soon; answered by a ``Settled``."""
        self._todo.put((delivery, settlement))

    def finish(self) -> None:
        """Settle what was handed over so far, then end."""
        self._todo.put(None)

    def abandon(self) -> None:
        """Stop waiting for a queue that is away; what is not settled comes back by its lease."""
        self._stop_asked.set()
        self._todo.put(None)

    def _serve(self) -> None:
        next_extension = time.monotonic() + self._lease / 3
        finishing = False
        while not (finishing or self._stop_asked.is_set()):
            batch, finishing = self._gather(max(0.0, next_extension - time.monotonic()))
            self._settle(batch)
            if time.monotonic() >= next_extension:
                self._extend()
                next_extension = time.monotonic() + self._lease / 3

    def _gather(self, wait: float) -> tuple[list[tuple[Delivery, Settlement]], bool]:
        """Return what there is to settle, waiting for the first, and whether the end was asked for."""
        batch: list[tuple[Delivery, Settlement]] = []
        while len(batch) < _TOGETHER:
            try:
                item = self._todo.get_nowait() if batch else self._todo.get(timeout=wait)
            except queues.Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _settle(self, batch: list[tuple[Delivery, Settlement]]) -> None:
        acks = [(d, s) for d, s in batch if isinstance(s, Ack)]
        if acks:
            ours = self._patiently(lambda: self._queue.ack([d for d, _ in acks]))
            self._done(acks, ours)
        releases: dict[float, list[tuple[Delivery, Settlement]]] = {}
        for delivery, settlement in batch:
            if isinstance(settlement, Release):
                releases.setdefault(settlement.delay, []).append((delivery, settlement))
            elif isinstance(settlement, Retry | Bury):
                self._settle_failure(delivery, settlement)
        for delay, group in releases.items():
            deliveries = [d for d, _ in group]
            self._done(group, self._patiently(lambda d=deliveries, s=delay: self._queue.release(d, s)))  # type: ignore[misc]  # as above

    def _settle_failure(self, delivery: Delivery, settlement: Retry | Bury) -> None:
        if isinstance(settlement, Bury) and settlement.failure is None:
            last = self._patiently(lambda: self._queue.last_attempt_failure(delivery.index))
            failure = last or Failure("HandlerError", f"all {delivery.attempts} attempts failed")
            settlement = replace(settlement, failure=failure)
        self._settle_known_failure(delivery, settlement)

    def _settle_known_failure(self, delivery: Delivery, settlement: Retry | Bury) -> None:
        failure = settlement.failure
        assert failure is not None  # noqa: S101 - filled in above; tells the type checker
        if isinstance(settlement, Retry):
            ours = self._patiently(lambda: self._queue.retry(delivery, settlement.delay, failure))
        else:
            ours = self._patiently(lambda: self._queue.bury(delivery, failure, attempted=settlement.attempted))
            state = self._patiently(self._queue.state) if delivery.index != COMPLETION else None
            if state is not None:
                self._judge(state, self._threshold)
        self._done([(delivery, settlement)], None if ours is None else [ours])

    def _done(self, settled: Sequence[tuple[Delivery, Settlement]], ours: list[bool] | None) -> None:
        if ours is None:  # stopped while the queue was away: the leases run out by themselves
            return
        with self._held_lock:
            for delivery, _ in settled:
                self._held.pop(delivery.lease, None)
        for (delivery, settlement), mine in zip(settled, ours, strict=True):
            self._say(Settled(delivery, settlement, mine))

    def _extend(self) -> None:
        with self._held_lock:
            held = list(self._held.values())
        if held:
            self._patiently(lambda: self._queue.extend(held, self._lease))
