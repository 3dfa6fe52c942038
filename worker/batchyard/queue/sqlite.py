"""The one-machine engine: a job's queue as one SQLite file that every process of the job opens.

Every operation is one transaction that moves the rows and the numbers together, so a process killed between any two
lines leaves either all of it or none. ``running`` is not a number that is kept but the leases that have not ended,
so it is right without anybody noticing that a lease ran out.

A settle is accepted as long as the batch was not given to somebody else, even when the lease has run out since.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path

import apsw

from batchyard.queue import sqlite_schema
from batchyard.queue.port import (
    COMPLETION,
    BodyTooLarge,
    Completion,
    Counts,
    Delivery,
    FailedBatch,
    Failure,
    Halt,
    Position,
    PublishConflict,
    QueueUnavailable,
    State,
)
from batchyard.queue.sqlite_store import Store, translated
from batchyard.queue.sqlite_taking import Nothing, take, take_completion
from batchyard.queue.sqlite_text import failure_from_text, failure_to_text, halt_from_text, halt_to_text

_STATE = """
SELECT published, succeeded, failed, items, completion, completion_failure, halt,
  (SELECT count(*) FROM delivery WHERE token IS NOT NULL AND due > :now AND id >= 0)
FROM job"""


class SqliteQueue:
    """One handle on a job's queue file. See ``batchyard.queue.port.Queue`` for what each operation promises.

    ``owner`` names the holder of this handle's leases for ``reclaim``. Use ``create`` or ``open``.
    """

    max_body = 512 << 20

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        owner: str = "",
        clock: Callable[[], float] = time.time,
        *,
        patience: float = 30.0,
    ) -> "SqliteQueue":
        """Make the file and return a handle on it.

        Raises FileExistsError when there is a file already, QueueUnavailable when none can be made there.
        """
        try:
            sqlite_schema.make(Path(path))
        except FileExistsError:
            raise
        except apsw.Error as error:
            raise translated(Path(path), error) from error
        except OSError as error:
            raise QueueUnavailable(f"queue {path}: cannot be made: {error.strerror}") from error
        return cls.open(path, owner, clock, patience=patience)

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        owner: str = "",
        clock: Callable[[], float] = time.time,
        *,
        patience: float = 30.0,
    ) -> "SqliteQueue":
        """Return a handle on the file at ``path``.

        ``clock`` returns unix seconds and is the same for every handle of a queue; when it goes back by more than a
        second, the due times of the file go back with it. ``patience``: seconds to try for a lock. Raises QueueLost
        when there is no such file or it is no queue of this version, InvalidError when the SQLite library is older
        than 3.51.3, QueueUnavailable when the file cannot be read and written.
        """
        return cls(Store(Path(path), clock, patience), owner)

    # --- enqueuer ---
    def position(self) -> Position:
        """Return where to go on publishing."""
        rows = self._store.read("SELECT published, cursor, completion FROM job, enqueuer")
        published, cursor, completion = rows[0]
        return Position(published, cursor, sealed=completion != Completion.ABSENT.value)

    def publish(self, first: int, bodies: Sequence[bytes], cursor: bytes = b"") -> None:
        """Publish batches ``first``, ``first + 1``, … all or none, and keep ``cursor`` with them."""
        for index, body in enumerate(bodies, first):
            if len(body) > self.max_body:
                raise BodyTooLarge(f"batch {index}: found {len(body)} bytes, expected at most {self.max_body}")

        def work(_now: float) -> None:
            published, completion = self._store.execute("SELECT published, completion FROM job")[0]
            if completion != Completion.ABSENT.value:
                raise PublishConflict(
                    f"queue {self._store.path}: sealed at {published} batches, nothing can be added"
                )
            if first != published:
                raise PublishConflict(f"queue {self._store.path}: holds {published} batches, found {first} expected")
            self._store.execute_many("INSERT INTO body(id, body) VALUES (?, ?)", enumerate(bodies, first))
            self._store.execute("UPDATE job SET published = ?", (first + len(bodies),))
            self._store.execute("UPDATE enqueuer SET cursor = ?", (cursor,))

        self._store.write(work)

    def seal(self, published: int, items: int) -> None:
        """Say that ``published`` batches with ``items`` items are all. Repeating it is harmless."""

        def work(now: float) -> None:
            held, completion = self._store.execute("SELECT published, completion FROM job")[0]
            if held != published:
                raise PublishConflict(
                    f"queue {self._store.path}: holds {held} batches, cannot be sealed at {published}"
                )
            if completion == Completion.ABSENT.value:
                self._store.execute("UPDATE job SET completion = ?, items = ?", (Completion.WAITING.value, items))
                self._store.execute("INSERT INTO delivery(id, due) VALUES (?, ?)", (COMPLETION, now))

        self._store.write(work)

    # --- worker: taking ---
    def receive(self, limit: int, lease: float, wait: float) -> list[Delivery]:
        """Lease up to ``limit`` due batches for ``lease`` seconds, waiting up to ``wait`` seconds for the first.

        Returns early, with nothing, when the job is over and when the completion token is free: there is something
        else to do then.
        """
        until = time.monotonic() + wait
        while True:
            version = self._store.version() if wait > 0 else 0
            taken = self._store.write(lambda now: take(self._store, self._owner, limit, lease, now))
            if not isinstance(taken, Nothing):
                return taken
            if not taken.waits or time.monotonic() >= until:
                return []
            self._store.wait(version, taken.due, until)

    def receive_completion(self, lease: float) -> Delivery | None:
        """Lease the completion token: only when sealed, not halted, and every batch is settled. Never waits."""
        return self._store.write(lambda now: take_completion(self._store, self._owner, lease, now))

    # --- worker: settling ---
    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        """Let each lease end ``lease`` seconds from now; False where the lease is no longer ours."""
        sql = "UPDATE delivery SET due = ? WHERE id = ? AND token = ?"
        return self._each(deliveries, lambda d, now: self._store.changed(sql, (now + lease, d.index, d.lease)))

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Settle as succeeded before returning; False where the lease is no longer ours.

        Durable against the death of any process; after a power cut the last moments may come back unsettled.
        """

        def work(_now: float) -> list[bool]:
            settled = [self._remove(d) is not None for d in deliveries]
            gone = [(d.index,) for d, ok in zip(deliveries, settled, strict=True) if ok]
            batches = [row for row in gone if row[0] != COMPLETION]
            self._store.execute_many("DELETE FROM body WHERE id = ?", batches)
            if batches:
                self._store.execute("UPDATE job SET succeeded = succeeded + ?", (len(batches),))
            if len(batches) < len(gone):
                self._store.execute("UPDATE job SET completion = ?", (Completion.SUCCEEDED.value,))
            return settled

        return self._store.write(work) if deliveries else []

    def retry(self, delivery: Delivery, delay: float, failure: Failure) -> bool:
        """Record a failed attempt and give the batch back, due in ``delay`` seconds."""
        sql = (
            "UPDATE delivery SET due = ?, token = NULL, owner = NULL, attempts = attempts + 1"
            " WHERE id = ? AND token = ?"
        )

        def work(now: float) -> bool:
            ours = self._store.changed(sql, (now + delay, delivery.index, delivery.lease))
            if ours:
                self._record(delivery.index, failure_to_text(failure))
            return ours

        return self._store.write(work)

    def release(self, deliveries: Sequence[Delivery], delay: float = 0.0) -> list[bool]:
        """Give batches back, due in ``delay`` seconds: an interruption, neither an attempt nor a loss."""
        sql = "UPDATE delivery SET due = ?, token = NULL, owner = NULL WHERE id = ? AND token = ?"
        return self._each(deliveries, lambda d, now: self._store.changed(sql, (now + delay, d.index, d.lease)))

    def bury(self, delivery: Delivery, failure: Failure, *, attempted: bool = True) -> bool:
        """Settle as failed for good, keeping body, error and the attempts, plus one when ``attempted``."""
        text = failure_to_text(failure)

        def work(_now: float) -> bool:
            attempts = self._remove(delivery, keep_attempt=True)
            if attempts is None:
                return False
            if attempted:
                self._record(delivery.index, text)
            if delivery.index == COMPLETION:
                sql = "UPDATE job SET completion = ?, completion_failure = ?"
                self._store.execute(sql, (Completion.FAILED.value, text))
                return True
            nth = self._store.execute("UPDATE job SET failed = failed + 1 RETURNING failed")[0][0]
            row = (delivery.index, nth, attempts + attempted, text)
            self._store.execute("INSERT INTO failed(id, nth, attempts, failure) VALUES (?, ?, ?, ?)", row)
            return True

        return self._store.write(work)

    def reclaim(self, owner: str | None, *, lost: bool = True) -> int:
        """End the leases of ``owner`` (None: all) now; return how many.

        For whoever knows that the holder is dead: its batches come back without waiting for their leases. Each counts
        as a loss, which a batch may have caused; ``lost=False`` is for an interruption from outside, and then also
        for leases that have run out since.
        """
        whose = "WHERE token IS NOT NULL AND (:owner IS NULL OR owner = :owner)"
        if lost:
            sql = f"UPDATE delivery SET due = :now {whose} AND due > :now RETURNING id"  # noqa: S608 - constants
        else:
            sql = f"UPDATE delivery SET due = min(due, :now), token = NULL, owner = NULL {whose} RETURNING id"  # noqa: S608
        return self._store.write(lambda now: len(self._store.execute(sql, {"owner": owner, "now": now})))

    def _each(self, deliveries: Sequence[Delivery], settle: Callable[[Delivery, float], bool]) -> list[bool]:
        if not deliveries:
            return []
        return self._store.write(lambda now: [settle(d, now) for d in deliveries])

    def _remove(self, delivery: Delivery, *, keep_attempt: bool = False) -> int | None:
        """Take a batch out of the deliveries if the lease is still its own; return the attempts on record."""
        sql = "DELETE FROM delivery WHERE id = ? AND token = ? RETURNING attempts"
        rows = self._store.execute(sql, (delivery.index, delivery.lease))
        if not rows:
            return None
        attempts: int = rows[0][0]
        if attempts and not keep_attempt:
            self._store.execute("DELETE FROM attempt WHERE id = ?", (delivery.index,))
        return attempts

    def _record(self, index: int, failure: str) -> None:
        self._store.execute("INSERT OR REPLACE INTO attempt(id, failure) VALUES (?, ?)", (index, failure))

    # --- everyone ---
    def state(self) -> State:
        """Return one consistent look."""
        rows = self._store.read(_STATE, {"now": self._store.now()})
        published, succeeded, failed, items, completion, failure, halt, running = rows[0]
        return State(
            counts=Counts(published, succeeded, failed, running),
            completion=Completion(completion),
            completion_failure=None if failure is None else failure_from_text(failure),
            halt=None if halt is None else halt_from_text(halt),
            items=items,
        )

    def halt(self, reason: str, message: str) -> Halt:
        """Stop the job; the first halt stays. Returns the one in force."""
        text = halt_to_text(Halt(reason, message))
        sql = "UPDATE job SET halt = coalesce(halt, ?) RETURNING halt"
        return halt_from_text(self._store.write(lambda _now: self._store.execute(sql, (text,))[0][0]))

    def resume(self) -> None:
        """Take a halt back."""
        self._store.write(lambda _now: self._store.execute("UPDATE job SET halt = NULL"))

    def failed(self) -> Iterator[FailedBatch]:
        """Yield the batches that failed for good, by index, one body in memory at a time.

        Each is a look of its own, so a slow reader keeps nothing locked; one that fails meanwhile behind the reader's
        place is not seen.
        """
        sql = "SELECT id, body, attempts, failure FROM failed JOIN body USING (id) WHERE id > ? ORDER BY id LIMIT 1"
        index = -1
        while rows := self._store.read(sql, (index,)):
            index, body, attempts, failure = rows[0]
            yield FailedBatch(index, body, attempts, failure_from_text(failure))

    def recent_failures(self, limit: int) -> list[FailedBatch]:
        """Return the newest failed batches, newest first, with empty bodies."""
        rows = self._store.read(
            "SELECT id, attempts, failure FROM failed ORDER BY nth DESC LIMIT ?", (max(0, limit),)
        )
        return [FailedBatch(index, b"", attempts, failure_from_text(text)) for index, attempts, text in rows]

    def last_attempt_failure(self, index: int) -> Failure | None:
        """Return the failure of the newest failed attempt of a batch, None if it has none or succeeded since."""
        rows = self._store.read("SELECT failure FROM attempt WHERE id = ?", (index,))
        return failure_from_text(rows[0][0]) if rows else None

    def close(self) -> None:
        """Give back what the handle holds; leases stay."""
        self._store.close()
