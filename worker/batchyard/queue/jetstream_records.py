"""What the JetStream engine writes into its records, and what a delivery count means; pure.

A batch settled at its first delivery has no record. Any other word about it (given back, delivered again, buried) is
a record under its subject, written only when the last one is still the writer's own. So of all leases that a batch
ever had, the newest alone can settle it. Records are never removed: that is what keeps old leases out.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from batchyard.queue.port import Failure


class Word(Enum):
    """The newest word about a batch."""

    LEASED = "leased"
    GIVEN_BACK = "given back"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a batch. ``delivered``: the server's count when this was written. ``by``: whose word it is.

    ``failure``: of the newest failed attempt. ``buried``: of the token alone; a batch's is under ``f.<i>``.
    """

    word: Word
    delivered: int = 0
    attempts: int = 0
    lost: int = 0
    by: str = ""
    failure: Failure | None = None
    buried: Failure | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the batch only waits to be removed."""
        return self.word in (Word.SUCCEEDED, Word.FAILED)

    def to_bytes(self) -> bytes:
        """Return the record: JSON in ASCII, since an error text may hold anything."""
        return json.dumps({**asdict(self), "word": self.word.value}).encode()


NOTHING = Status(Word.GIVEN_BACK)
"""A batch of which nobody said a word."""


def status_from(data: bytes) -> Status:
    """Return what ``Status.to_bytes`` wrote."""
    fields = json.loads(data)
    return Status(
        **fields | {"word": Word(fields["word"])} | {key: _failure(fields[key]) for key in ("failure", "buried")}
    )


def _failure(fields: dict[str, Any] | None) -> Failure | None:
    return None if fields is None else Failure(**fields)


def claimed(before: Status, delivered: int, by: str) -> Status:
    """Return the status once delivery number ``delivered`` is in somebody's hands.

    Every delivery since the last word, and the last one too unless it was given back, ended without a word: a loss.
    A server that was killed may have forgotten its newest deliveries and count on from less; none is charged then.
    """
    silent = delivered - before.delivered - (before.word is Word.GIVEN_BACK)
    return replace(before, word=Word.LEASED, delivered=delivered, lost=before.lost + max(0, silent), by=by)


def buried_to_bytes(attempts: int, failure: Failure) -> bytes:
    """Return the record of a batch that failed for good."""
    return json.dumps({"attempts": attempts, "failure": asdict(failure)}).encode()


def buried_from(data: bytes) -> tuple[int, Failure]:
    """Return the attempts and the failure of a batch that failed for good."""
    fields = json.loads(data)
    return fields["attempts"], Failure(**fields["failure"])


@dataclass(frozen=True, slots=True)
class Intent:
    """A publish about to happen: ``count`` batches from ``first``, after which the cursor is ``cursor``.

    Written before the batches, which come all or none: so whether it happened shows in the number published.
    ``before``: the cursor until then. ``rivals``: intents at the same place that this one took over, by the number
    published after them; a rival that was held up may still be the one that happens.
    """

    first: int
    count: int
    cursor: bytes
    before: bytes = b""
    rivals: tuple[tuple[int, bytes], ...] = ()
    by: str = ""

    def cursor_at(self, published: int) -> bytes | None:
        """Return the cursor that belongs to a number published; None when this intent knows nothing of it."""
        if published == self.first + self.count:
            return self.cursor
        for after, cursor in reversed(self.rivals):
            if after == published:
                return cursor
        return self.before if published == self.first else None

    def followed(self, count: int, cursor: bytes, published: int, by: str) -> "Intent":
        """Return the next intent, at ``published``, which this one must know."""
        before = self.cursor_at(published)
        if before is None:
            raise ValueError(f"no cursor is known at {published} published")
        rivals: tuple[tuple[int, bytes], ...] = ()
        if published == self.first and self.count:
            rivals = (*self.rivals, (self.first + self.count, self.cursor))[-8:]
        return Intent(published, count, cursor, before, rivals, by)

    def to_bytes(self) -> bytes:
        """Return the record."""
        fields: dict[str, Any] = {"first": self.first, "count": self.count, "by": self.by}
        fields |= {"cursor": _text(self.cursor), "before": _text(self.before)}
        return json.dumps(fields | {"rivals": [[after, _text(cursor)] for after, cursor in self.rivals]}).encode()


def intent_from(data: bytes) -> Intent:
    """Return what ``Intent.to_bytes`` wrote."""
    fields = json.loads(data)
    rivals = tuple((after, b64decode(cursor)) for after, cursor in fields["rivals"])
    cursor, before = b64decode(fields["cursor"]), b64decode(fields["before"])
    return Intent(fields["first"], fields["count"], cursor, before, rivals, fields["by"])


def _text(value: bytes) -> str:
    return b64encode(value).decode()
