"""Asking a consumer for messages; apart because a pull may be answered after whoever asked has stopped waiting.

A server starts a lease when it sends the message, which is never before we asked. So the moment of asking, not of
arrival, is what a lease is reckoned from: a process that was stopped in between does not think it holds a lease that
has ended.
"""

import asyncio
import itertools
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from batchyard.queue.jetstream_layout import AckSubject, ack_subject
from batchyard.queue.jetstream_store import Store
from batchyard.queue.jetstream_wire import Answer, Message, NoResponders
from batchyard.queue.port import COMPLETION

_BYTES = 64 << 20  # of bodies in one answer
_SLACK = 3.0  # seconds after which a pull that has ended by itself is forgotten


@dataclass(slots=True)
class Arrival:
    """A message out of the work queue. ``since``: monotonic seconds before which its lease has not begun."""

    subject: str
    ack: AckSubject
    body: bytes
    since: float
    connection: int

    @property
    def index(self) -> int:
        """The batch's index, or COMPLETION."""
        return COMPLETION if self.ack.consumer == "t" else self.ack.sequence - 1


class Pulls:
    """One handle's pulls, one at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._inbox = store.wire.inbox()
        self._numbers = itertools.count()
        self._open: dict[str, float] = {}
        self._ended: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._interrupted = False
        self.arrivals: deque[Arrival] = deque()

    async def open(self) -> None:
        """Listen for answers, and for what is said of the job as a whole."""
        wire, place = self._store.wire, self._store.place
        await wire.subscribe(f"{self._inbox}.>", self._arrived)
        for tail in ("c.halt", "c.seal", "s.t"):
            await wire.subscribe(place.record(tail), self._said, who=self._inbox)

    async def close(self) -> None:
        """Stop listening."""
        wire, place = self._store.wire, self._store.place
        await wire.forget(f"{self._inbox}.>")
        for tail in ("c.halt", "c.seal", "s.t"):
            await wire.forget(place.record(tail), who=self._inbox)

    def _arrived(self, answer: Answer) -> None:
        now = time.monotonic()
        if answer.reply:
            since = min(self._open.values(), default=now)
            arrival = Arrival(answer.reply, ack_subject(answer.reply), answer.data, since, self._store.wire.number)
            self.arrivals.append(arrival)
        elif answer.status != "100":
            number = answer.subject.rpartition(".")[2]
            if number in self._open:
                self._ended[number] = answer.status
        self._changed.set()

    def _said(self, _answer: Answer) -> None:
        self._interrupted = True
        self._changed.set()

    async def pull(self, consumer: str, limit: int, wait: float = 0.0) -> list[Arrival]:
        """Return up to ``limit`` messages that are due; with ``wait``, wait that long for the first.

        Ends early when something is said of the job as a whole. What arrives too late is in ``arrivals``.
        """
        wire, name = self._store.wire, self._store.place.batches
        now = time.monotonic()
        for old in [number for number, sent in self._open.items() if sent < now - _SLACK]:
            self._open.pop(old)
            self._ended.pop(old, None)
        number = f"{next(self._numbers)}"
        question: dict[str, Any] = {"batch": limit, "max_bytes": max(_BYTES, 2 * await wire.max_payload())}
        question |= {"expires": int(wait * 1e9)} if wait else {"no_wait": True}
        until = time.monotonic() + wait + 5.0
        connection = wire.number
        self._interrupted = False
        self._open[number] = time.monotonic()
        before = len(self.arrivals)
        next_ = Message(f"$JS.API.CONSUMER.MSG.NEXT.{name}.{consumer}", json.dumps(question).encode())
        await wire.send(next_, reply=f"{self._inbox}.{number}")
        while len(self.arrivals) - before < limit and number not in self._ended:
            if wire.number != connection or not wire.is_up or time.monotonic() > until:
                break
            if wait and self._interrupted:
                return self._taken(before)  # this pull is still open
            await self._wait_for_change(0.25)
        status = self._ended.pop(number, "")
        self._open.pop(number, None)
        if status in ("503", "409") and len(self.arrivals) == before:
            await self._store.there(self._nobody)
        if not self.arrivals and (wire.number != connection or not wire.is_up):
            raise wire.unavailable("the connection was lost")
        return self._taken(before)

    async def _nobody(self) -> None:
        raise NoResponders(self._store.place.batches)

    def _taken(self, before: int) -> list[Arrival]:
        return [self.arrivals.pop() for _ in range(len(self.arrivals) - before)][::-1]

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than until something is said of the job as a whole."""
        self._interrupted = False
        until = time.monotonic() + seconds
        while not self._interrupted and (left := until - time.monotonic()) > 0:
            await self._wait_for_change(left)

    async def _wait_for_change(self, seconds: float) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return
