"""What a worker decides, as pure functions: no clock, no sleep, no I/O. What settles a batch is chosen here."""

import signal
from dataclasses import dataclass

from batchyard.api.messages import Header
from batchyard.queue.port import Delivery, Failure, State
from batchyard.worker.settings import RetrySettings, ThresholdSettings, WorkerSettings


@dataclass(frozen=True, slots=True)
class Ack:
    """The attempt succeeded."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed; another one is due in ``delay`` seconds."""

    delay: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class Bury:
    """The batch failed for good. ``attempted``: whether it ran in this delivery.

    ``failure`` None: its newest failed attempt on record says why.
    """

    failure: Failure | None
    attempted: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """An interruption: back without an attempt, due in ``delay`` seconds."""

    delay: float = 0.0


Settlement = Ack | Retry | Bury | Release


def backoff(attempt: int, retry: RetrySettings, jitter: float) -> float:
    """Return the seconds before the attempt after failed attempt number ``attempt`` (from 1).

    Doubles from ``backoff_initial`` to ``backoff_max``; ``jitter`` in [0, 1) takes up to half of it away, so that
    batches that failed together do not come back together.
    """
    full = min(retry.backoff_max, retry.backoff_initial * 2.0 ** min(attempt - 1, 60))
    return full * (1.0 - jitter / 2.0)


def after_failure(delivery: Delivery, failure: Failure, retry: RetrySettings, jitter: float) -> Retry | Bury:
    """Return what follows a failed attempt of ``delivery``."""
    attempt = delivery.attempts + 1
    if attempt >= retry.max_attempts:
        return Bury(failure)
    return Retry(backoff(attempt, retry, jitter), failure)


def before_run(delivery: Delivery, header: Header | None, settings: WorkerSettings) -> Bury | None:
    """Return why a batch just received must not run, None when it may.

    ``header`` is None when the body is not a message of ours.
    """
    if header is None:
        return Bury(Failure("InvalidItem", "the queue holds a message that is not a batch of ours"), attempted=False)
    if header.invalid is not None:
        return Bury(Failure("InvalidItem", header.invalid), attempted=False)
    return used_up(delivery, settings)


def used_up(delivery: Delivery, settings: WorkerSettings) -> Bury | None:
    """Return the burial of a batch, or of the completion token, that may not be tried again; None when it may.

    Its attempts may be used up on record (a worker died between recording and burying, or ``maxAttempts`` was lowered
    for a resumed run), or its workers vanish again and again.
    """
    if delivery.attempts >= settings.retry.max_attempts:
        return Bury(None, attempted=False)
    if delivery.lost < settings.max_lost:
        return None
    text = (
        f"{delivery.lost} workers vanished while they held this batch, without a word: killed, out of memory, or "
        "their node was lost"
    )
    return Bury(Failure("WorkerLost", text), attempted=False)


def threshold_passed(threshold: ThresholdSettings, state: State) -> str | None:
    """Return the sentence for an exceeded errorThreshold, None while it holds.

    A percentage is of all batches, so it is judged only once the queue is sealed: before that the total is unknown.
    """
    failed, total = state.counts.failed, state.total
    if threshold.batches is not None and failed > threshold.batches:
        return f"{failed} {'batch' if failed == 1 else 'batches'} failed, errorThreshold allows {threshold.batches}"
    if threshold.percent is not None and total and failed * 100.0 > threshold.percent * total:
        share = failed * 100.0 / total
        return f"{failed} of {total} batches failed ({share:.3g} %), errorThreshold allows {threshold.percent:g} %"
    return None


def feed_depth(threads: int, seconds_a_batch: float | None) -> int:
    """Return how many batches one handler process may hold at once, running ones included.

    Handing a batch over costs well under a millisecond, so only batches that take a few milliseconds need one waiting
    in the process. A waiting batch cannot be given to a process that falls idle: none waits behind a slow one.
    """
    if seconds_a_batch is None:
        return threads
    return threads + max(0, min(32, int(0.02 / max(seconds_a_batch, 1e-6))))


def prefetch(capacity: int, seconds_a_batch: float | None, queue_seconds: float = 0.25) -> int:
    """Return how many batches a worker may hold beyond those its processes have: about ``queue_seconds`` of work.

    Batches of seconds are not prefetched: another worker may be free for them, and a lease held for nothing delays
    the end of the job.
    """
    if seconds_a_batch is None:
        return 0
    return max(0, min(512, int(capacity * queue_seconds / max(seconds_a_batch, 1e-6))))


def death(returncode: int) -> str:
    """Return how a handler process ended, for a person: ``was killed by SIGSEGV (signal 11)``."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "an unknown signal"
    hint = "; the kernel does this when memory runs out" if returncode == -9 else ""
    return f"was killed by {name} (signal {-returncode}{hint})"
