"""What every rule looks at: one observation, the limits, and the status as it stands, read once.

Of the status only what can't be recomputed is looked at: that the queue was made, that the job has ended and how, the
times of conditions, what was shown (counts never go back) and, to tell a change, the state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchyard.api.names import workers_name
from batchyard.api.status import ConditionType, Status
from batchyard.queue.port import State
from pydantic import ValidationError

from batchyard_operator.model import Observation, PodSeen


@dataclass(frozen=True, slots=True)
class Limits:
    """Times of the operator's own, in seconds.

    ``startup``: how long models may load before the job fails with ModelInvalid. ``debounce``: how long a trouble
    lasts before it is told, and is told at least. ``patience``: how long waiting without an error is told as a stall.
    ``farewell``: how long workers may take to leave an ended job before they are stopped.
    """

    startup: float = 1800.0
    debounce: float = 10.0
    patience: float = 30.0
    farewell: float = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one job, as its rules see it."""

    seen: Observation
    limits: Limits
    before: Status

    @property
    def now(self) -> float:
        """The turn's moment, unix seconds."""
        return self.seen.now

    @property
    def queue(self) -> State | None:
        """The queue's state, None while it is not there to be looked at."""
        return self.seen.queue.state if self.seen.queue.known == "here" else None

    @property
    def is_suspended(self) -> bool:
        """Whether the user stopped the job for now."""
        job = self.seen.job.job
        return job is not None and job.spec.suspend

    @property
    def reads_files(self) -> bool:
        """Whether an enqueuer of its own cuts the input; inline items are published by the first worker."""
        job = self.seen.job.job
        return job is not None and job.spec.input.kind != "items"

    @property
    def is_sealed(self) -> bool:
        """Whether every batch is queued, as far as the queue or, while it is away, the status knows."""
        if self.queue is not None:
            return self.queue.sealed
        return self.before.batches is not None and self.before.batches.total is not None

    @property
    def started(self) -> float | None:
        """When the queue was made, unix seconds; None before."""
        return self.before.start_time.timestamp() if self.before.start_time else None

    @property
    def going_since(self) -> float:
        """When the job started, or was resumed the last time: what ``timeout`` counts from."""
        start = self.started if self.started is not None else self.now
        for condition in self.before.conditions:
            if condition.type is ConditionType.SUSPENDED:
                was_going = condition.status == "False"  # else it is resumed by this very turn
                return max(start, condition.last_transition_time.timestamp()) if was_going else self.now
        return start

    @property
    def publishes_by_worker(self) -> bool:
        """Whether batches are still to be queued by the worker with index 0: inline items."""
        return not self.reads_files and not self.is_sealed

    @property
    def alive(self) -> list[PodSeen]:
        """The pods that have not ended."""
        return [pod for pod in self.seen.pods if pod.phase not in ("Succeeded", "Failed")]

    def pods(self, component: str) -> list[PodSeen]:
        """Return the pods of ``worker`` or ``enqueuer``, by name."""
        return sorted((pod for pod in self.seen.pods if pod.component == component), key=lambda pod: pod.name)

    @property
    def first_worker(self) -> list[PodSeen]:
        """The pods of the worker with index 0: the one that is there, and those that failed."""
        prefix = f"{workers_name(self.seen.job.key.name)}-0-"
        return [pod for pod in self.pods("worker") if pod.name.startswith(prefix)]


def read_turn(seen: Observation, limits: Limits) -> Turn:
    """Return the turn of an observation."""
    return Turn(seen, limits, standing(seen.job.status))


def standing(raw: Mapping[str, Any]) -> Status:
    """Return the status as it stands; a field that can't be read (another version wrote it) counts as not there."""
    try:
        return Status.model_validate(dict(raw))
    except ValidationError:
        return Status.model_validate({name: value for name, value in raw.items() if _is_readable(name, value)})


def _is_readable(name: str, value: Any) -> bool:
    try:
        Status.model_validate({name: value})
    except ValidationError:
        return False
    return True


def moment(seconds: float) -> datetime:
    """Return unix seconds as a time that Kubernetes writes: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC)


def clock(seconds: float) -> str:
    """Return unix seconds for a sentence: ``2025-01-31T12:00:00Z``."""
    return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def cut(text: str, limit: int = 1000) -> str:
    """Return a text of at most ``limit`` characters on one line: API objects stay small."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
