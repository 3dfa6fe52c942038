"""The cluster's engine: a job's queue on NATS JetStream, behind the port's plain calls.

This is the synchronous face. What it says and how it stays exact is told where it is done: the layout in
``jetstream_layout``, publishing and sealing in ``jetstream_publishing``, giving out in ``jetstream_taking``, the last
word about a delivery in ``jetstream_settling``, counting in ``jetstream_reading``, the connection in
``jetstream_wire``. A process has one connection a server, on a thread of its own (``jetstream_thread``), shared by
all its handles.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from batchyard.queue.jetstream_layout import Place, place_of
from batchyard.queue.jetstream_making import make, remove
from batchyard.queue.jetstream_publishing import Publishing
from batchyard.queue.jetstream_reading import Reading
from batchyard.queue.jetstream_settling import Settling
from batchyard.queue.jetstream_store import Store
from batchyard.queue.jetstream_taking import Taking
from batchyard.queue.jetstream_thread import run
from batchyard.queue.jetstream_wire import shared
from batchyard.queue.port import (
    BodyTooLarge,
    Delivery,
    FailedBatch,
    Failure,
    Halt,
    Position,
    QueueLost,
    QueueUnavailable,
    State,
)

T = TypeVar("T")

HEADROOM = 64 << 10
"""Bytes of a server's ``max_payload`` that are left to headers: over it a server cuts the connection."""


class JetStreamQueue:
    """One handle on a job's queue. See ``batchyard.queue.port.Queue`` for what each operation promises.

    ``max_body`` is the server's ``max_payload`` less ``HEADROOM``. ``publish`` takes 1,000 batches at most. A lease
    ends no sooner than its holder is gone: leases shorter than the queue's own end with that, longer ones are kept up
    by the process that holds them. Use ``create`` or ``open``.
    """

    def __init__(self, store: Store, taking: Taking, created: str, max_body: int) -> None:
        self.max_body = max_body
        self._store = store
        self._taking = taking
        self._publishing = Publishing(store)
        self._settling = Settling(store, taking)
        self._reading = Reading(store, created)
        self._keeper: asyncio.Task[None] | None = None
        self._user: tuple[int, int] | None = None
        self._is_closed = False

    @classmethod
    def create(cls, url: str, owner: str = "", *, lease: float = 30.0, replicas: int = 1) -> "JetStreamQueue":
        """Make the queue's streams, as far as they are not there, and return a handle.

        ``lease``: seconds after which a batch of a worker that is gone comes back, 0.5 or more. ``replicas``: copies
        of each stream, 1 or 3. Raises InvalidError for what cannot be, QueueUnavailable.
        """
        place = place_of(url)
        run(_with_store(place, lambda store: make(store, lease, replicas)))
        return cls.open(url, owner)

    @classmethod
    def open(cls, url: str, owner: str = "") -> "JetStreamQueue":  # noqa: ARG003 - every engine is told; here leases end by themselves
        """Return a handle on the queue at ``url``. Raises InvalidError, QueueLost, QueueUnavailable."""
        return run(_opened(cls, place_of(url)))

    @staticmethod
    def delete(url: str) -> None:
        """Remove the queue with all it holds; one that is gone already is fine. Raises QueueUnavailable."""
        run(_with_store(place_of(url), remove))

    # --- enqueuer ---
    def position(self) -> Position:
        """Return where to go on publishing."""
        return self._run(self._publishing.position)

    def publish(self, first: int, bodies: Sequence[bytes], cursor: bytes = b"") -> None:
        """Publish batches ``first``, ``first + 1``, … all or none, 1,000 at most, and keep ``cursor`` with them."""
        for index, body in enumerate(bodies, first):
            if len(body) > self.max_body:
                raise BodyTooLarge(f"batch {index}: found {len(body)} bytes, expected at most {self.max_body}")
        self._run(lambda: self._publishing.publish(first, bodies, cursor))

    def seal(self, published: int, items: int) -> None:
        """Say that ``published`` batches with ``items`` items are all. Repeating it is harmless."""
        self._run(lambda: self._publishing.seal(published, items))

    # --- worker ---
    def receive(self, limit: int, lease: float, wait: float) -> list[Delivery]:
        """Lease up to ``limit`` due batches, 64 MiB of them, waiting up to ``wait`` seconds for the first.

        Returns early, with nothing, when the job is over and when the completion token is free.
        """
        return self._run(lambda: self._taking.receive(limit, lease, wait))

    def receive_completion(self, lease: float) -> Delivery | None:
        """Lease the completion token: only when sealed, not halted, and every batch is settled. Never waits."""
        return self._run(lambda: self._taking.receive_completion(lease))

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        """Let each lease end ``lease`` seconds from now; False where the lease is no longer ours."""
        return self._run(lambda: self._settling.extend(deliveries, lease)) if deliveries else []

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Settle as succeeded, confirmed by the server; False where the lease is no longer ours."""
        return self._run(lambda: self._settling.ack(deliveries)) if deliveries else []

    def retry(self, delivery: Delivery, delay: float, failure: Failure) -> bool:
        """Record a failed attempt and give the batch back, due in ``delay`` seconds."""
        return self._run(lambda: self._settling.retry(delivery, delay, failure))

    def release(self, deliveries: Sequence[Delivery], delay: float = 0.0) -> list[bool]:
        """Give batches back, due in ``delay`` seconds: an interruption, neither an attempt nor a loss."""
        return self._run(lambda: self._settling.release(deliveries, delay)) if deliveries else []

    def bury(self, delivery: Delivery, failure: Failure, *, attempted: bool = True) -> bool:
        """Settle as failed for good, keeping body, error and the attempts, plus one when ``attempted``."""
        return self._run(lambda: self._settling.bury(delivery, failure, attempted=attempted))

    # --- everyone ---
    def state(self) -> State:
        """Return one consistent look."""
        return self._run(self._reading.state)

    def halt(self, reason: str, message: str) -> Halt:
        """Stop the job; the first halt stays. Returns the one in force."""
        return self._run(lambda: self._reading.halt(Halt(reason, message)))

    def resume(self) -> None:
        """Take a halt back."""
        self._run(self._reading.resume)

    def failed(self) -> Iterator[FailedBatch]:
        """Yield the batches that failed for good, by index, one body in memory at a time.

        One that fails meanwhile is seen when all that had failed before are told, if its index is behind them.
        """
        index, sequence = -1, 1
        while True:
            after, since = index, sequence
            found, sequence = self._run(lambda a=after, s=since: self._reading.failed_after(a, s))  # type: ignore[misc]  # mypy does not infer a lambda with a default
            if not found:
                return
            for index in found:
                yield self._run(lambda i=index: self._reading.failed_batch(i))  # type: ignore[misc]  # as above

    def recent_failures(self, limit: int) -> list[FailedBatch]:
        """Return the newest failed batches, newest first, with empty bodies."""
        return self._run(lambda: self._reading.recent_failures(limit))

    def last_attempt_failure(self, index: int) -> Failure | None:
        """Return the failure of the newest failed attempt of a batch, None if it has none or succeeded since."""
        return self._run(lambda: self._reading.last_attempt_failure(index))

    def close(self) -> None:
        """Give back what the handle holds; leases stay. Closing again is harmless."""
        if not self._is_closed:
            self._is_closed = True
            if self._user is None or self._user[0] == os.getpid():
                run(self._close())

    # --- plumbing ---
    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._is_closed:
            raise RuntimeError(f"queue {self._store.place.name}: this handle is closed")
        user = (os.getpid(), threading.get_ident())
        self._user = self._user or user
        if self._user[0] != user[0]:
            raise RuntimeError(
                f"queue {self._store.place.name}: a handle does not survive fork; open one in the child"
            )
        if self._user != user:
            raise RuntimeError(f"queue {self._store.place.name}: a handle belongs to the thread that used it first")
        return run(work())

    async def begin(self) -> None:
        """Listen, and keep leases up; on the loop's thread."""
        await self._taking.pulls.open()
        self._keeper = asyncio.create_task(self._taking.keep())

    async def _close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        unused = list(self._taking.pulls.arrivals)
        self._taking.pulls.arrivals.clear()
        with suppress(QueueLost, QueueUnavailable):  # what cannot be given back comes back with its lease
            if unused and self._store.wire.is_up:
                deliveries = await self._taking.claim(unused, 0.0, known=True)
                await self._settling.release(deliveries, 0.0)
        await self._taking.pulls.close()
        await self._store.wire.release()


async def _with_store(place: Place, work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    wire = await shared(place.servers)
    try:
        await work(Store(wire, place))
    finally:
        await wire.release()


async def _opened(kind: type[JetStreamQueue], place: Place) -> JetStreamQueue:
    wire = await shared(place.servers)
    try:
        store = Store(wire, place)
        created = (await store.stream()).created
        await store.api(f"STREAM.INFO.{place.records}")
        patience = (await store.consumer("b")).patience
        max_body = max(0, await wire.max_payload() - HEADROOM)
        queue = kind(store, Taking(store, patience), created, max_body)
        await queue.begin()
    except BaseException:
        await wire.release()
        raise
    return queue
