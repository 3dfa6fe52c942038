"""What the JetStream engine asks of a server, one method a question, with the server's errors in the port's words."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from batchyard.queue.jetstream_layout import Place
from batchyard.queue.jetstream_records import Status, Word, status_from
from batchyard.queue.jetstream_wire import Answer, Message, NoResponders, Wire
from batchyard.queue.port import BodyTooLarge, Completion, Halt, QueueLost

T = TypeVar("T")

_GONE = {10059, 10014}  # stream, consumer not found
_REFUSED = {10071, 10164}  # the last sequence is not the expected one
_BUSY = {10210, 10211}  # too many batches of messages under way at once
EXPECTED_LAST = "Nats-Expected-Last-Sequence"
EXPECTED_OF_SUBJECT = "Nats-Expected-Last-Subject-Sequence"
_LISTED = 1000


class Refused(Exception):
    """Something else was written since."""


class Kept(NamedTuple):
    """A record and its sequence."""

    sequence: int
    subject: str
    data: bytes
    more: int  # matching records behind it


@dataclass(frozen=True, slots=True)
class Seal:
    """What was sealed."""

    published: int
    items: int


@dataclass(frozen=True, slots=True)
class Control:
    """What the records say of the job as a whole. ``halt_sequence``: of the halt's record, 0 when there was none."""

    halt: Halt | None
    halt_sequence: int
    seal: Seal | None
    token: Status | None

    @property
    def completion(self) -> Completion:
        """Where the completion token stands."""
        if self.seal is None:
            return Completion.ABSENT
        word = self.token.word if self.token else None
        return {Word.SUCCEEDED: Completion.SUCCEEDED, Word.FAILED: Completion.FAILED}.get(
            word or Word.LEASED, Completion.WAITING
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing more is given out."""
        return self.halt is not None or self.completion in (Completion.SUCCEEDED, Completion.FAILED)


class Stream(NamedTuple):
    """The work queue at one moment."""

    last: int
    messages: int
    created: str


class Consumer(NamedTuple):
    """Who reads the work queue: the newest message given out first, how many are out, how many never were."""

    delivered: int
    out: int
    fresh: int
    patience: float


class Store:
    """A job's two streams, seen through a wire."""

    def __init__(self, wire: Wire, place: Place) -> None:
        self.wire = wire
        self.place = place

    def lost(self, why: str) -> QueueLost:
        """Return the error that says that the queue is gone."""
        return QueueLost(f"queue {self.place.name} at {', '.join(self.place.servers)}: {why}")

    # --- asking ---
    async def api(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the server's JetStream API. Raises QueueLost, QueueUnavailable."""
        (fields,) = await self.apis(
            [Message(f"$JS.API.{subject}", b"" if body is None else json.dumps(body).encode())]
        )
        return fields

    async def apis(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Ask the server's JetStream API several things at once. Raises as ``api``."""
        try:
            answers = await self.wire.ask(messages)
        except NoResponders:
            raise self.wire.unavailable("JetStream is not ready, or not enabled") from None
        found: list[dict[str, Any]] = [json.loads(answer.data) for answer in answers]
        for fields in found:
            self._check(fields)
        return found

    def _check(self, fields: dict[str, Any]) -> None:
        error = fields.get("error")
        if not error:
            return
        code, said = error.get("err_code", 0), error.get("description", "")
        if code in _GONE:
            raise self.lost(f"it is gone: {said}")
        if code in _REFUSED:
            raise Refused(said)
        if code == 10054:
            raise BodyTooLarge(f"queue {self.place.name}: {said}")
        raise self.wire.unavailable(f"{said} (error {code})")

    async def there(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``work``; when nobody answers it, say whether the queue is gone or only away."""
        try:
            return await work()
        except NoResponders:
            for stream in (self.place.batches, self.place.records):
                await self.api(f"STREAM.INFO.{stream}")
            for consumer in ("b", "t"):
                await self.consumer(consumer)
            raise self.wire.unavailable("a stream did not answer") from None

    async def stream(self) -> Stream:
        """Look at the work queue."""
        found = await self.api(f"STREAM.INFO.{self.place.batches}")
        return Stream(found["state"]["last_seq"], found["state"]["messages"], found["created"])

    async def mark(self) -> tuple[object, ...]:
        """Return what changes with anything that is done to the queue: numbers of both streams, and who reads.

        Each stands only while nothing is written, removed, given out or settled; so it doesn't matter which is asked
        first.
        """
        place = self.place
        asked = (f"STREAM.INFO.{place.batches}", f"CONSUMER.INFO.{place.batches}.b", f"STREAM.INFO.{place.records}")
        batches, consumer, records = await self.apis([Message(f"$JS.API.{subject}") for subject in asked])
        states = [stream["state"] for stream in (batches, records)]
        numbers = [(state["last_seq"], state["messages"]) for state in states]
        return batches["created"], *numbers, consumer["num_ack_pending"]

    async def consumer(self, name: str) -> Consumer:
        """Look at a consumer of the work queue."""
        found = await self.api(f"CONSUMER.INFO.{self.place.batches}.{name}")
        delivered, patience = found["delivered"]["stream_seq"], found["config"]["ack_wait"] / 1e9
        return Consumer(delivered, found["num_ack_pending"], found["num_pending"], patience)

    async def holds(self, sequence: int) -> bool:
        """Whether the work queue still holds a message."""
        message = Message(f"$JS.API.DIRECT.GET.{self.place.batches}", json.dumps({"seq": sequence}).encode())
        (answer,) = await self.there(lambda: self.wire.ask([message]))
        if answer.status not in ("", "404"):
            raise self.wire.unavailable(f"answered {answer.status}")
        return not answer.status

    async def get(self, stream: str, **question: Any) -> list[Kept]:
        """Read messages of a stream."""
        message = Message(f"$JS.API.DIRECT.GET.{stream}", json.dumps(question).encode())
        return [_kept(answer) for answer in await self.there(lambda: self.wire.stream(message))]

    async def last(self, subjects: Sequence[str]) -> dict[str, Kept]:
        """Return the record of each subject that has one."""
        found: dict[str, Kept] = {}
        for start in range(0, len(subjects), _LISTED):
            part = list(subjects[start : start + _LISTED])
            kept = await self.get(self.place.records, multi_last=part, batch=_LISTED)
            found |= {record.subject: record for record in kept}
        return found

    async def count(self, tail: str) -> int:
        """Return the number of records whose subject matches."""
        kept = await self.get(self.place.records, seq=1, next_by_subj=self.place.record(tail), batch=1)
        return kept[0].more + 1 if kept else 0

    # --- the job as a whole ---
    async def control(self) -> Control:
        """Return what the records say of the job as a whole, at one moment."""
        place = self.place
        names = [place.record("c.halt"), place.record("c.seal"), place.record("s.t")]
        halt, seal, token = map((await self.last(names)).get, names)
        stopped = json.loads(halt.data) if halt else None
        return Control(
            Halt(**stopped) if stopped else None,
            halt.sequence if halt else 0,
            Seal(**json.loads(seal.data)) if seal else None,
            status_from(token.data) if token else None,
        )

    async def healed(self, control: Control) -> Control:
        """Return ``control`` with the seal, also when whoever sealed died before it could say so."""
        if control.seal is not None:
            return control
        message = Message(
            f"$JS.API.DIRECT.GET.{self.place.batches}", json.dumps({"last_by_subj": self.place.token}).encode()
        )
        (answer,) = await self.there(lambda: self.wire.ask([message]))
        if answer.status:
            return await self.control()  # settled since, in which case it is on record; else not sealed
        await self.write(self.place.record("c.seal"), answer.data)
        return await self.control()

    async def forgotten_up_to(self) -> int:
        """Return the newest sequence that some server may have given out and forgotten when it was killed.

        A server writes down what it gave out a moment later. So the first to use the queue on a server that is new,
        or started anew, puts on record how far the queue went by then.
        """
        here, subject = await self.wire.server_id(), self.place.record("c.servers")
        for _ in range(100):
            kept = (await self.last([subject])).get(subject)
            known: dict[str, Any] = json.loads(kept.data) if kept else {"servers": [], "forgotten": 0}
            servers, forgotten = list(known["servers"]), int(known["forgotten"])
            if here in servers:
                return forgotten
            if servers:
                forgotten = (await self.stream()).last
            data = json.dumps({"servers": [*servers, here][-64:], "forgotten": forgotten}).encode()
            with suppress(Refused):  # somebody else was first: look again
                await self.write(subject, data, kept.sequence if kept else 0)
                return forgotten
        raise self.wire.unavailable("too many others are connecting")

    # --- writing ---
    def wake(self) -> None:
        """Tell whoever listens to look now: at once, unconfirmed. What it tells of is on record already."""
        self.wire.tell(Message(self.place.wake))

    async def write(self, subject: str, data: bytes, expected: int | None = None) -> int:
        """Write a record and return its sequence. Raises Refused when its subject's newest is not ``expected``."""
        headers = None if expected is None else {EXPECTED_OF_SUBJECT: str(expected)}
        return await self.publish(Message(subject, data, headers))

    async def publish(self, message: Message) -> int:
        """Publish one message and return its sequence."""
        (answer,) = await self.there(lambda: self.wire.ask([message]))
        return self.stored(answer)

    def stored(self, answer: Answer) -> int:
        """Return the sequence that an answer to a publish tells. Raises Refused and what ``api`` raises."""
        fields = json.loads(answer.data)
        self._check(fields)
        sequence: int = fields["seq"]
        return sequence

    async def publish_together(self, messages: Sequence[Message]) -> int:
        """Publish messages of one stream, all or none; return the last one's sequence."""
        if len(messages) == 1:
            return await self.publish(messages[0])
        for attempt in range(8):
            try:
                return await self._publish_together(messages)
            except _Busy:
                await asyncio.sleep(0.01 * 2**attempt)
        raise self.wire.unavailable("too many publishes at once")

    async def _publish_together(self, messages: Sequence[Message]) -> int:
        batch = uuid.uuid4().hex
        numbered = []
        for number, (subject, data, headers, _) in enumerate(messages, 1):
            together = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number), **(headers or {})}
            if number == len(messages):
                together["Nats-Batch-Commit"] = "1"
            # The first is answered too: a server that is busy with other batches says so there.
            numbered.append(Message(subject, data, together, reply=number in (1, len(messages))))
        opened, committed = await self.there(lambda: self.wire.ask(numbered))
        for answer in (opened, committed):
            if answer.data and json.loads(answer.data).get("error", {}).get("err_code") in _BUSY:
                raise _Busy
        return self.stored(committed)

    async def purge(self, subjects: Sequence[str]) -> None:
        """Remove records."""
        name = f"$JS.API.STREAM.PURGE.{self.place.records}"
        messages = [Message(name, json.dumps({"filter": subject}).encode()) for subject in subjects]
        if messages:
            for answer in await self.there(lambda: self.wire.ask(messages)):
                self._check(json.loads(answer.data))


class _Busy(Exception):
    """The server has too many batches of messages under way."""


def _kept(answer: Answer) -> Kept:
    head = answer.headers
    return Kept(int(head["Nats-Sequence"]), head["Nats-Subject"], answer.data, int(head.get("Nats-Num-Pending") or 0))
