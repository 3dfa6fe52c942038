"""The queue port: what a job needs of a queue, in our words. One contract suite runs every engine.

Accounting (the same promise from every engine, after any crash): batch ``i`` is the i-th batch published, each is
settled at most once, and at any moment ``published = succeeded + failed + pending + running``. Nothing is inferred
from an empty queue; counts come from what is stored.

Delivery is at least once. A delivery is *settled* exactly once by ``ack``, ``retry``, ``release`` or ``bury``; a
settle whose lease has been given to somebody else since is refused (returns False) and changes nothing.

A handle belongs to one thread. A delivery may be settled through any handle of the same queue.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from batchyard.api.errors import BatchyardError, TransientError

COMPLETION = -1
"""The ``index`` of the completion token's delivery."""


class QueueLost(BatchyardError):
    """The job's queue is gone (deleted, or a server without a disk restarted): the job cannot go on."""


class QueueUnavailable(TransientError):
    """The queue cannot be reached, is locked too long, or its disk is full. Nothing is lost; try again."""


class PublishConflict(BatchyardError):
    """Another enqueuer published since; read ``position()`` and go on from there."""


class BodyTooLarge(BatchyardError):
    """A body is over the engine's ``max_body``."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt, or a batch for good, failed.

    ``reason``: a constant: HandlerError, BatchTimeout, ProcessDied, WorkerLost, InvalidItem, OutputError.
    ``error``: one line for a person. ``detail``: traceback or last output, at most 16 KiB. ``time``: unix seconds.
    """

    reason: str
    error: str
    detail: str = ""
    time: float = 0.0
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch under a lease.

    ``index``: the batch's index from 0, or COMPLETION. ``body``: see ``batchyard.api.messages``; empty for the
    token. ``attempts``: failed attempts on record, so this one is number ``attempts + 1``. ``lost``: earlier
    deliveries whose lease ran out without a word. ``lease``: opaque, new for each delivery.
    """

    index: int
    body: bytes
    attempts: int
    lost: int
    lease: Hashable


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """A batch that failed for good, as kept by the queue."""

    index: int
    body: bytes
    attempts: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of batches at one moment. ``running`` are those under a lease (prefetched ones included)."""

    published: int
    succeeded: int
    failed: int
    running: int

    @property
    def pending(self) -> int:
        """Batches published, not settled and under no lease."""
        return self.published - self.succeeded - self.failed - self.running

    @property
    def settled(self) -> int:
        """Batches that succeeded or failed for good."""
        return self.succeeded + self.failed


class Completion(Enum):
    """Where the completion token stands."""

    ABSENT = "absent"  # the enqueuer has not sealed the queue yet
    WAITING = "waiting"  # sealed; not settled yet
    SUCCEEDED = "succeeded"  # acked: on_job_complete ran, or there is none
    FAILED = "failed"  # buried: on_job_complete failed for good


@dataclass(frozen=True, slots=True)
class Halt:
    """A job stopped before its end: workers take nothing more. ``reason`` is the status's CamelCase reason."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class State:
    """One consistent look at a job's queue."""

    counts: Counts
    completion: Completion
    completion_failure: Failure | None
    halt: Halt | None
    items: int | None  # items in the whole input; None until sealed

    @property
    def sealed(self) -> bool:
        """Whether every batch is published."""
        return self.completion is not Completion.ABSENT

    @property
    def total(self) -> int | None:
        """All batches of the job; None until the queue is sealed."""
        return self.counts.published if self.sealed else None

    @property
    def is_over(self) -> bool:
        """Whether workers have nothing left to do: the token is settled, or the job is halted."""
        return self.halt is not None or self.completion in (Completion.SUCCEEDED, Completion.FAILED)


@dataclass(frozen=True, slots=True)
class Position:
    """Where the enqueuer stands: go on at batch ``published``. ``cursor`` is what the last publish left."""

    published: int
    cursor: bytes
    sealed: bool


class Queue(Protocol):
    """One job's queue."""

    max_body: int
    """The largest body in bytes that ``publish`` takes."""

    # --- enqueuer ---
    def position(self) -> Position:
        """Return where to go on publishing."""
        ...

    def publish(self, first: int, bodies: Sequence[bytes], cursor: bytes = b"") -> None:
        """Publish batches ``first``, ``first + 1``, … all or none, and keep ``cursor`` with them.

        Raises PublishConflict when ``first`` is not the number of batches published so far or the queue is sealed;
        BodyTooLarge; QueueUnavailable; QueueLost.
        """
        ...

    def seal(self, published: int, items: int) -> None:
        """Say that ``published`` batches with ``items`` items are all. Repeating it is harmless.

        From then the completion token is given out as soon as every batch is settled. Raises PublishConflict when
        ``published`` is not what the queue holds.
        """
        ...

    # --- worker ---
    def receive(self, limit: int, lease: float, wait: float) -> list[Delivery]:
        """Lease up to ``limit`` due batches for ``lease`` seconds, waiting up to ``wait`` seconds for the first.

        Until the queue is sealed batch ``i`` is given out only when ``2 * i < published``: an input that turns out to
        be malformed fails its job before half of it ran. Nothing is given out while the job is halted: then, and when
        the token is settled, the answer comes at once and is empty. An engine may also answer at once when the token
        is free. Batches never given out come by index; one that comes back comes when it is due.
        """
        ...

    def receive_completion(self, lease: float) -> Delivery | None:
        """Lease the completion token: only when sealed, not halted, and every batch is settled. Never waits."""
        ...

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        """Let each lease end ``lease`` seconds from now; False where the lease is no longer ours."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Settle as succeeded, durably, before returning; False where the lease is no longer ours."""
        ...

    def retry(self, delivery: Delivery, delay: float, failure: Failure) -> bool:
        """Record a failed attempt and give the batch back, due in ``delay`` seconds."""
        ...

    def release(self, deliveries: Sequence[Delivery], delay: float = 0.0) -> list[bool]:
        """Give batches back, due in ``delay`` seconds: an interruption, neither an attempt nor a loss."""
        ...

    def bury(self, delivery: Delivery, failure: Failure, *, attempted: bool = True) -> bool:
        """Settle as failed for good, keeping body, error and ``delivery.attempts``, plus one when ``attempted``.

        ``attempted=False`` is for a batch that did not run in this delivery: invalid, or its attempts used up.
        """
        ...

    # --- everyone ---
    def state(self) -> State:
        """Return one consistent look."""
        ...

    def halt(self, reason: str, message: str) -> Halt:
        """Stop the job; the first halt stays. Returns the one in force."""
        ...

    def resume(self) -> None:
        """Take a halt back."""
        ...

    def failed(self) -> Iterator[FailedBatch]:
        """Yield the batches that failed for good, by index, in bounded memory."""
        ...

    def recent_failures(self, limit: int) -> list[FailedBatch]:
        """Return the newest failed batches, newest first, with empty bodies."""
        ...

    def last_attempt_failure(self, index: int) -> Failure | None:
        """Return the failure of the newest failed attempt of a batch (or COMPLETION), None if it has none.

        It is forgotten when the batch succeeds, and kept when the batch is buried.
        """
        ...

    def close(self) -> None:
        """Give back what the handle holds; leases stay."""
        ...
