"""The enqueuer's side of the JetStream engine: publishing without gap or duplicate, and the seal.

Order of a publish: the intent (with the cursor), then the batches, all or none and only behind the expected last
sequence. Killed before the batches, the number published says that the intent did not happen; killed after them,
that it did. Order of a seal: the token as the last message of the work queue, which shuts out every publish that
expects another one there, then the record that says so; whoever meets the one without the other writes it.
"""

import json
import uuid
from collections.abc import Sequence

from batchyard.queue.jetstream_layout import PUBLISH_TOGETHER
from batchyard.queue.jetstream_records import Intent, intent_from
from batchyard.queue.jetstream_store import EXPECTED_LAST, Control, Kept, Refused, Seal, Store, Stream
from batchyard.queue.jetstream_wire import Message
from batchyard.queue.port import Position, PublishConflict, QueueUnavailable


class Publishing:
    """What one handle knows of where the enqueuer stands."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._name = store.place.name
        self._cursor = store.place.record("c.cursor")
        self._known: tuple[int, Intent, int] | None = None  # published, the newest intent, its sequence
        self._doubt: tuple[int, int, bytes, str] | None = None  # a publish whose end is not known

    async def position(self) -> Position:
        """Return where to go on."""
        published, intent, _, control = await self._look()
        cursor = intent.cursor_at(published)
        assert cursor is not None  # noqa: S101 - _look looks until it is there
        return Position(published, cursor, sealed=control.seal is not None)

    async def _look(self) -> tuple[int, Intent, int, Control]:
        """Return the number published, the newest intent, its sequence and the control records: they fit together."""
        for _ in range(100):
            stream = await self._store.stream()
            control = await self._store.healed(await self._store.control())
            kept = (await self._store.last([self._cursor])).get(self._cursor)
            intent = _intent(kept)
            published = published_of(stream, control.seal)
            if intent.cursor_at(published) is not None:
                return published, intent, kept.sequence if kept else 0, control
        raise self._store.wire.unavailable("others publish faster than one can look")

    async def publish(self, first: int, bodies: Sequence[bytes], cursor: bytes) -> None:
        """Publish as the port says."""
        if len(bodies) > PUBLISH_TOGETHER:
            raise ValueError(f"found {len(bodies)} batches in one publish, expected at most {PUBLISH_TOGETHER}")
        if self._doubt and self._doubt[:3] == (first, len(bodies), cursor) and await self._happened():
            return
        self._doubt = None
        if self._known is None or self._known[0] != first:
            published, newest, sequence, control = await self._look()
            if control.seal is not None:
                raise PublishConflict(f"queue {self._name}: sealed at {published} batches, nothing can be added")
            if published != first:
                raise PublishConflict(f"queue {self._name}: holds {published} batches, found {first} expected")
            self._known = (published, newest, sequence)
        _, newest, sequence = self._known
        self._known = None
        by = uuid.uuid4().hex
        intent = newest.followed(len(bodies), cursor, first, by)
        try:
            try:
                sequence = await self._store.write(self._cursor, intent.to_bytes(), sequence)
                if bodies:
                    await self._store.publish_together(self._messages(first, bodies))
            except QueueUnavailable:
                self._doubt = (first, len(bodies), cursor, by)
                raise
        except Refused:
            now = (await self._look())[0]
            raise PublishConflict(f"queue {self._name}: holds {now} batches, found {first} expected") from None
        self._known = (first + len(bodies), intent, sequence)

    def _messages(self, first: int, bodies: Sequence[bytes]) -> list[Message]:
        subject = self._store.place.batch
        messages = [Message(subject, body) for body in bodies]
        messages[0] = messages[0]._replace(headers={EXPECTED_LAST: str(first)})
        return messages

    async def _happened(self) -> bool:
        """Whether the publish in doubt was stored after all."""
        assert self._doubt is not None  # noqa: S101 - asked for only then
        first, count, _, by = self._doubt
        published, intent, sequence, _ = await self._look()
        if intent.by != by or published != first + count:
            return False
        self._known, self._doubt = (published, intent, sequence), None
        return True

    async def seal(self, published: int, items: int) -> None:
        """Seal as the port says."""
        held, _, _, control = await self._look()
        if held != published:
            raise PublishConflict(f"queue {self._name}: holds {held} batches, cannot be sealed at {published}")
        if control.seal is not None:
            return
        data = json.dumps({"published": published, "items": items}).encode()
        try:
            await self._store.publish(Message(self._store.place.token, data, {EXPECTED_LAST: str(published)}))
        except Refused:
            held, _, _, control = await self._look()
            if control.seal is None or held != published:
                raise PublishConflict(
                    f"queue {self._name}: holds {held} batches, cannot be sealed at {published}"
                ) from None
            return
        await self._store.write(self._store.place.record("c.seal"), data)
        self._store.wake()


def published_of(stream: Stream, seal: Seal | None) -> int:
    """Return the number of batches published: the token behind them is none."""
    return stream.last if seal is None else min(stream.last, seal.published)


def _intent(kept: Kept | None) -> Intent:
    return intent_from(kept.data) if kept else Intent(0, 0, b"")
