"""Which batches the JetStream engine gives out, and what a delivery is worth: the gate, the claims, the waiting."""

import asyncio
import time
from dataclasses import dataclass

from batchyard.api.errors import BatchyardError
from batchyard.queue.jetstream_leases import LEASES, Held, Lease, unlike_any_other
from batchyard.queue.jetstream_publishing import published_of
from batchyard.queue.jetstream_pulls import Arrival, Pulls
from batchyard.queue.jetstream_records import NOTHING, Status, claimed, status_from
from batchyard.queue.jetstream_store import EXPECTED_OF_SUBJECT, Control, Kept, Refused, Store
from batchyard.queue.jetstream_wire import Message
from batchyard.queue.port import COMPLETION, Completion, Delivery, QueueUnavailable

_SLICE = 1.0  # seconds of one long poll
_GATE_PAUSE = 0.05
_GATED = 64  # batches that the gate still closes, kept while looking for some that come back


@dataclass(frozen=True, slots=True)
class _Claim:
    """A delivery that has a record, or needs one."""

    arrival: Arrival
    kept: Kept | None
    status: Status
    by: str


class Taking:
    """One handle's way to batches. ``patience``: seconds that the server waits for a word about a delivery."""

    def __init__(self, store: Store, patience: float) -> None:
        self._store = store
        self.patience = patience
        self.pulls = Pulls(store)
        self._sealed = False
        self._forgotten = 0  # the newest sequence that a killed server may have given out unknown to this one
        self._looked_on = 0  # the connection that this was looked up on

    def sure_until(self, since: float) -> float:
        """Return when a lease that began at ``since`` may end, by our clock, with a margin for what is under way."""
        return since + self.patience - min(2.0, self.patience / 4)

    async def receive(self, limit: int, lease: float, wait: float) -> list[Delivery]:
        """Lease batches as the port says."""
        until = time.monotonic() + wait
        while True:
            control, known = await asyncio.gather(self._store.control(), self._store.count("s.>"))
            if control.is_over or limit <= 0:
                return []
            self._sealed = control.seal is not None
            due, is_open = await self._pull(limit, control)
            found = await self.claim(due, lease, known=known > 0)
            left = until - time.monotonic()
            if found or left <= 0 or await self._may_complete(control):
                return found
            if is_open:
                late = await self.pulls.pull("b", 1, wait=max(0.001, min(_SLICE, left)))
                self.pulls.arrivals.extend(late)
            else:
                await self.pulls.pause(min(_GATE_PAUSE, left))

    async def _pull(self, limit: int, control: Control) -> tuple[list[Arrival], bool]:
        """Return what is due, and whether waiting for more at the consumer makes sense; see the port for the gate."""
        gate, room, is_open = None, limit, True
        if not self._sealed:
            stream, consumer = await asyncio.gather(self._store.stream(), self._store.consumer("b"))
            gate = (published_of(stream, control.seal) + 1) // 2
            is_open = gate > consumer.delivered
            room = min(limit, gate - consumer.delivered)
            if not is_open and consumer.out > len(self.pulls.arrivals):
                room = min(limit, _GATED - len(self.pulls.arrivals))  # some may come back
        due = self._open_ones(limit, gate)
        if (room := min(room, limit - len(due))) > 0:
            self.pulls.arrivals.extend(await self.pulls.pull("b", room))
            due += self._open_ones(limit - len(due), gate)
        return due, is_open

    def _open_ones(self, limit: int, gate: int | None) -> list[Arrival]:
        """Take from what has arrived what may be given out."""
        waiting = list(self.pulls.arrivals)
        due = [a for a in waiting if a.ack.delivered > 1 or gate is None or a.index < gate][:limit]
        chosen = {id(arrival) for arrival in due}
        self.pulls.arrivals.clear()
        self.pulls.arrivals.extend(a for a in waiting if id(a) not in chosen)
        return due

    async def _may_complete(self, control: Control) -> bool:
        """Whether the completion token is free: then there is something else to do than to wait for batches."""
        if not self._sealed or control.completion is not Completion.WAITING:
            return False
        stream, token = await asyncio.gather(self._store.stream(), self._store.consumer("t"))
        return stream.messages <= 1 and token.fresh > 0

    async def receive_completion(self, lease: float) -> Delivery | None:
        """Lease the token as the port says."""
        stream = await self._store.stream()
        control = await self._store.healed(await self._store.control())
        # what is left is the token alone: a look from before the seal shows a batch less, not more
        if control.is_over or control.seal is None or stream.last <= control.seal.published or stream.messages > 1:
            return None
        arrivals = await self.pulls.pull("t", 1)
        self.pulls.arrivals.extend(a for a in arrivals if a.index != COMPLETION)
        found = await self.claim([a for a in arrivals if a.index == COMPLETION], lease, known=True)
        return found[0] if found else None

    # --- claiming ---
    async def claim(self, arrivals: list[Arrival], lease: float, *, known: bool) -> list[Delivery]:
        """Turn what arrived into deliveries; what is settled already is only removed.

        A first delivery needs no record, unless it is the first only for a server that forgot. Any other is put on
        record before it is given out, which ends the leases before it. ``known``: whether there are any records.
        Called again after a fault, it charges nothing twice.
        """
        if not arrivals:
            return []
        try:
            return await self._claim(arrivals, lease, known)
        except QueueUnavailable:
            self.pulls.arrivals.extend(arrivals)
            raise

    async def _claim(self, arrivals: list[Arrival], lease: float, known: bool) -> list[Delivery]:
        subject = self._store.place.status
        while self._looked_on != (connection := self._store.wire.number):
            self._forgotten, self._looked_on = await self._store.forgotten_up_to(), connection
        forgotten = self._forgotten
        asked = [subject(a.index) for a in arrivals if known or a.ack.delivered > 1 or a.ack.sequence <= forgotten]
        records = await self._store.last(asked) if asked else {}
        fresh, claims, settled = [], [], []
        for arrival in arrivals:
            kept = records.get(subject(arrival.index))
            before = status_from(kept.data) if kept else NOTHING
            if before.is_settled:
                settled.append(Message(arrival.subject, b"+ACK"))
            elif kept is None and arrival.ack.delivered == 1 and arrival.ack.sequence > forgotten:
                fresh.append(self._delivery(arrival, NOTHING, 0, unlike_any_other(), lease))
            else:
                by = unlike_any_other()
                claims.append(_Claim(arrival, kept, claimed(before, arrival.ack.delivered, by), by))
        if settled:
            await self._store.there(lambda: self._store.wire.ask(settled))
        return sorted(fresh + await self._write(claims, lease), key=lambda d: d.index) if claims else fresh

    async def _write(self, claims: list[_Claim], lease: float) -> list[Delivery]:
        place = self._store.place
        messages = [
            Message(
                place.status(claim.arrival.index),
                claim.status.to_bytes(),
                {EXPECTED_OF_SUBJECT: str(claim.kept.sequence if claim.kept else 0)},
            )
            for claim in claims
        ]
        answers = await self._store.there(lambda: self._store.wire.ask(messages))
        ours: list[tuple[_Claim, int]] = []
        for claim, answer in zip(claims, answers, strict=True):
            try:
                ours.append((claim, self._store.stored(answer)))
            except Refused:  # given to somebody else since: it is not ours to give out
                continue
        await self._store.purge([place.waits(claim.arrival.index) for claim, _ in ours if claim.kept])
        return [self._delivery(claim.arrival, claim.status, record, claim.by, lease) for claim, record in ours]

    def _delivery(self, arrival: Arrival, status: Status, record: int, by: str, seconds: float) -> Delivery:
        lease = Lease(self._store.place.name, arrival.subject, arrival.ack.delivered, record, by)
        wanted = time.monotonic() + seconds
        LEASES.add([(lease, Held(self.sure_until(arrival.since), wanted, arrival.connection, keeper=self))])
        body = b"" if arrival.index == COMPLETION else arrival.body
        return Delivery(arrival.index, body, status.attempts, status.lost, lease)

    # --- keeping ---
    async def keep(self) -> None:
        """Extend, for ever, what has arrived and was not given out, and leases longer than the server's patience."""
        while True:
            await asyncio.sleep(self.patience / 3)
            kept = LEASES.kept_by(self)
            waiting = list(self.pulls.arrivals)
            messages = [Message(lease.subject, b"+WPI") for lease, _ in kept]
            messages += [Message(arrival.subject, b"+WPI") for arrival in waiting]
            if not messages:
                continue
            sent, connection = time.monotonic(), self._store.wire.number
            try:
                await self._store.there(lambda m=messages: self._store.wire.ask(m))  # type: ignore[misc]  # a lambda with a default
            except BatchyardError:
                continue  # whoever uses the handle meets it too
            for _, held in kept:
                prolong(held, self.sure_until(sent), connection)
            for arrival in waiting:
                if time.monotonic() < self.sure_until(arrival.since):
                    arrival.since = sent

    def sure(self, held: Held) -> bool:
        """Whether a lease cannot have ended."""
        return held.connection == self._store.wire.number and time.monotonic() < held.sure_until


def prolong(held: Held, sure_until: float, connection: int) -> None:
    """Note an extension, if it surely came before the lease could end."""
    if held.connection == connection and time.monotonic() < held.sure_until:
        held.sure_until = max(held.sure_until, sure_until)
