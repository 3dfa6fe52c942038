"""The last word about a delivery: who may say it, and in which order it is written.

A first delivery whose lease cannot have ended is acknowledged straight away: one confirmed message. Everything else
is first put on record, behind the record that the lease knows, and only then told to the server: so one lease at most
has its word, and a process killed in between leaves a record that the next to get the message reads and completes.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from batchyard.queue.jetstream_layout import ack_subject
from batchyard.queue.jetstream_leases import LEASES, Held, Lease
from batchyard.queue.jetstream_records import Status, Word, buried_to_bytes, status_from
from batchyard.queue.jetstream_store import EXPECTED_OF_SUBJECT, Refused, Store
from batchyard.queue.jetstream_taking import Taking, prolong
from batchyard.queue.jetstream_wire import Message
from batchyard.queue.port import COMPLETION, Delivery, Failure

T = TypeVar("T")

_ACK, _EXTEND = b"+ACK", b"+WPI"
_AT_ONCE = 16  # records under way at once


class Settling:
    """One handle's settles."""

    def __init__(self, store: Store, taking: Taking) -> None:
        self._store = store
        self._taking = taking
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Settle as succeeded; see the port."""
        reserved = LEASES.take(deliveries)
        answers = [False] * len(deliveries)
        plain, careful = [], []
        for number, (delivery, held) in enumerate(zip(deliveries, reserved, strict=True)):
            lease = self._lease(delivery)
            if isinstance(held, Held) and delivery.index >= 0 and not lease.record and self._is_plain(held):
                plain.append(number)
            elif held is not False:
                careful.append(number)
        leases = [self._lease(deliveries[number]) for number in (*plain, *careful)]
        try:
            if plain:
                acks = [Message(self._lease(deliveries[number]).subject, _ACK) for number in plain]
                await self._store.there(lambda: self._store.wire.ask(acks))
                for number in plain:
                    answers[number] = True
                LEASES.settled(leases[: len(plain)])
            words = await _all(self._succeeded(deliveries[number], reserved[number]) for number in careful)
        except BaseException:
            LEASES.give_back(leases, in_doubt=True)
            raise
        for number, ours in zip(careful, words, strict=True):
            answers[number] = ours
        LEASES.settled(leases)
        return answers

    def _is_plain(self, held: Held) -> bool:
        return held.is_plain and not held.in_doubt and self._taking.sure(held)

    async def _succeeded(self, delivery: Delivery, held: Held | bool | None) -> bool:
        lease = self._lease(delivery)
        status = Status(Word.SUCCEEDED, lease.delivered, delivery.attempts, delivery.lost, lease.by)
        async with self._at_once:
            return await self._say(delivery, held, status, [], _ACK)

    async def retry(self, delivery: Delivery, delay: float, failure: Failure) -> bool:
        """Record a failed attempt and give the batch back; see the port."""
        lease = self._lease(delivery)
        status = Status(
            Word.GIVEN_BACK, lease.delivered, delivery.attempts + 1, delivery.lost, lease.by, failure=failure
        )
        return await self._reserved(delivery, lambda held: self._give_back(delivery, held, status, delay))

    async def release(self, deliveries: Sequence[Delivery], delay: float) -> list[bool]:
        """Give batches back; see the port."""
        return await _all(self._release(delivery, delay) for delivery in deliveries)

    async def _release(self, delivery: Delivery, delay: float) -> bool:
        async def work(held: Held | None) -> bool:
            before = await self._before(delivery)
            return await self._give_back(delivery, held, replace(before, word=Word.GIVEN_BACK), delay)

        return await self._reserved(delivery, work)

    async def _give_back(self, delivery: Delivery, held: Held | None, status: Status, delay: float) -> bool:
        waits = Message(self._store.place.waits(delivery.index), b"", reply=False)
        later = b"-NAK" + (b" " + json.dumps({"delay": int(delay * 1e9)}).encode() if delay > 0 else b"")
        return await self._say(delivery, held, status, [waits], later)

    async def bury(self, delivery: Delivery, failure: Failure, *, attempted: bool) -> bool:
        """Settle as failed for good; see the port."""

        async def work(held: Held | None) -> bool:
            before = await self._before(delivery)
            attempts = delivery.attempts + attempted
            status = replace(
                before, word=Word.FAILED, attempts=attempts, failure=failure if attempted else before.failure
            )
            if delivery.index == COMPLETION:
                return await self._say(delivery, held, replace(status, buried=failure), [], _ACK)
            place, index = self._store.place, delivery.index
            kept = [
                Message(place.record(f"x.{index}"), delivery.body, reply=False),
                Message(place.record(f"f.{index}"), buried_to_bytes(attempts, failure), reply=False),
            ]
            return await self._say(delivery, held, status, kept, _ACK)

        return await self._reserved(delivery, work)

    async def extend(self, deliveries: Sequence[Delivery], seconds: float) -> list[bool]:
        """Let leases end later; see the port."""
        table = [LEASES.get(delivery.lease) for delivery in deliveries]
        sure = [held is not None and self._taking.sure(held) for held in table]
        ours = await _all(self._still_ours(delivery, known) for delivery, known in zip(deliveries, sure, strict=True))
        sent, connection = time.monotonic(), self._store.wire.number
        messages = [
            Message(self._lease(d).subject, _EXTEND) for d, mine in zip(deliveries, ours, strict=True) if mine
        ]
        if messages:
            await self._store.there(lambda: self._store.wire.ask(messages))
        until = self._taking.sure_until(sent)
        for delivery, held, was_sure, mine in zip(deliveries, table, sure, ours, strict=True):
            if not mine:
                continue
            if held is not None and was_sure:
                prolong(held, until, connection)
                held.wanted_until = sent + seconds
            else:  # looked up just now
                adopted = Held(until, sent + seconds, connection, keeper=self._taking, is_plain=False)
                LEASES.add([(self._lease(delivery), adopted)])
        return ours

    # --- whose word it is ---
    async def _reserved(self, delivery: Delivery, work: Callable[[Held | None], Awaitable[bool]]) -> bool:
        (held,) = LEASES.take([delivery])
        if held is False:
            return False
        lease = self._lease(delivery)
        try:
            async with self._at_once:
                ours = await work(held if isinstance(held, Held) else None)
        except BaseException:
            LEASES.give_back([lease], in_doubt=True)
            raise
        LEASES.settled([lease])
        return ours

    async def _before(self, delivery: Delivery) -> Status:
        """Return what was known when the delivery was given out."""
        lease = self._lease(delivery)
        plain = Status(Word.LEASED, lease.delivered, delivery.attempts, delivery.lost, lease.by)
        if not lease.record:
            return plain
        subject = self._store.place.status(delivery.index)
        kept = (await self._store.last([subject])).get(subject)
        return replace(plain, failure=status_from(kept.data).failure) if kept else plain

    async def _say(
        self, delivery: Delivery, held: Held | bool | None, status: Status, more: list[Message], word: bytes
    ) -> bool:
        """Put ``status`` on record if the lease still has its word, with ``more``, and tell the server."""
        lease = self._lease(delivery)
        if held is None and not lease.record and not await self._store.holds(ack_subject(lease.subject).sequence):
            return False
        subject = self._store.place.status(delivery.index)
        first = Message(subject, status.to_bytes(), {EXPECTED_OF_SUBJECT: str(lease.record)})
        try:
            await self._store.publish_together([first, *more])
        except Refused:
            if not (isinstance(held, Held) and held.in_doubt and await self._said(subject, status)):
                return False
        if status.is_settled and delivery.index == COMPLETION:
            self._store.wake()
        await self._store.there(lambda: self._store.wire.ask([Message(lease.subject, word)]))
        return True

    async def _said(self, subject: str, status: Status) -> bool:
        """Whether the record is this very word, said before an answer got lost."""
        kept = (await self._store.last([subject])).get(subject)
        found = status_from(kept.data) if kept else None
        return found is not None and (found.by, found.word) == (status.by, status.word)

    async def _still_ours(self, delivery: Delivery, sure: bool) -> bool:
        if sure:
            return True
        lease, subject = self._lease(delivery), self._store.place.status(delivery.index)
        async with self._at_once:
            kept = (await self._store.last([subject])).get(subject)
            if (kept.sequence if kept else 0) != lease.record:
                return False
            return await self._store.holds(ack_subject(lease.subject).sequence)

    def _lease(self, delivery: Delivery) -> Lease:
        lease = delivery.lease
        if not isinstance(lease, Lease) or lease.queue != self._store.place.name:
            raise TypeError(f"found a delivery of another queue, expected one of {self._store.place.name}")
        return lease


async def _all(work: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*work))
