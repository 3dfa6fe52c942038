"""Many jobs' queues seen over one connection, for the operator: no handle, no lease, no thread a job.

A handle of the engine serves a worker: it listens for batches and keeps leases up. Who only looks at a thousand
queues now and then wants neither, and has an event loop of its own. All methods are coroutines of the loop that
``open`` ran on; a queue's name is the last part of its URL.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from batchyard.queue.jetstream_layout import WAKE, Place, place_of
from batchyard.queue.jetstream_making import make, remove
from batchyard.queue.jetstream_reading import Reading
from batchyard.queue.jetstream_store import Store
from batchyard.queue.jetstream_wire import Answer, Wire
from batchyard.queue.port import FailedBatch, Halt, QueueLost, State

PATIENCE = 3.0
"""Seconds without a connection after which nobody waits for one any more."""


@dataclass(slots=True)
class _Watched:
    """What is remembered of one queue between two looks."""

    store: Store
    reading: Reading
    mark: tuple[object, ...] | None = None
    state: State | None = None


class JetStreamWatch:
    """The queues of many jobs. Use ``open``; every method raises QueueUnavailable when the servers do not answer."""

    def __init__(self, servers: str, wire: Wire) -> None:
        self._servers = servers.rstrip("/")
        self._wire = wire
        self._watched: dict[str, _Watched] = {}
        self._down_since: float | None = time.monotonic()

    @classmethod
    async def open(cls, servers: str) -> "JetStreamWatch":
        """Return a watch of the queues at ``servers``, ``nats://host:port`` or several with commas.

        It waits for no connection: one is made in the background, for ever. Raises InvalidError for another URL.
        """
        place = place_of(f"{servers.rstrip('/')}/any")
        return cls(servers, Wire(place.servers))

    @property
    def connections(self) -> int:
        """Number of connections made so far: it grows when the servers are back."""
        return self._wire.number if self._wire.is_up else 0

    async def listen(self, woken: Callable[[str], None]) -> None:
        """Call ``woken`` with a queue's name when it was sealed, halted, resumed, or its token settled."""

        def heard(answer: Answer) -> None:
            woken(answer.subject.removeprefix(WAKE))

        await self._wire.subscribe(f"{WAKE}>", heard)
        await self._wire.flush()

    async def state(self, name: str) -> State:
        """Return one consistent look at a queue. Raises QueueLost when it is not there.

        What is read again is only what tells whether anything was done since the last look, unless something was.
        """
        self._check_up()
        watched = self._watched.get(name) or await self._found(name)
        try:
            mark = await watched.store.mark()
            if watched.state is None or mark != watched.mark:
                watched.state = await watched.reading.state()
                watched.mark = mark
        except QueueLost:
            self._watched.pop(name, None)
            raise
        return watched.state

    async def recent_failures(self, name: str, limit: int) -> list[FailedBatch]:
        """Return the newest failed batches, newest first, with empty bodies. Raises QueueLost."""
        self._check_up()
        watched = self._watched.get(name) or await self._found(name)
        return await watched.reading.recent_failures(limit)

    async def halt(self, name: str, reason: str, message: str) -> Halt:
        """Stop a job; the first halt stays. Returns the one in force. Raises QueueLost."""
        self._check_up()
        watched = self._watched.get(name) or await self._found(name)
        return await watched.reading.halt(Halt(reason, message))

    async def create(self, name: str, *, lease: float, replicas: int) -> None:
        """Make a queue, as far as it is not there. Raises InvalidError for what cannot be."""
        self._check_up()
        await make(Store(self._wire, self._place(name)), lease, replicas)

    async def delete(self, name: str) -> None:
        """Remove a queue with all it holds; one that is gone already is fine."""
        self._check_up()
        self._watched.pop(name, None)
        await remove(Store(self._wire, self._place(name)))

    def forget(self, name: str) -> None:
        """Remember nothing more of a queue."""
        self._watched.pop(name, None)

    async def close(self) -> None:
        """Close the connection."""
        await self._wire.close()

    # --- plumbing ---
    def _place(self, name: str) -> Place:
        return place_of(f"{self._servers}/{name}")

    def _check_up(self) -> None:
        """Fail at once when the servers have been away for a while: a thousand callers must not wait one by one."""
        if self._wire.is_up:
            self._down_since = None
        elif self._down_since is None:
            self._down_since = time.monotonic()
        elif time.monotonic() - self._down_since > PATIENCE:
            raise self._wire.unavailable(f"cannot be reached: {self._wire.problem}")

    async def _found(self, name: str) -> _Watched:
        store = Store(self._wire, self._place(name))
        created = (await store.stream()).created
        return self._watched.setdefault(name, _Watched(store, Reading(store, created)))
