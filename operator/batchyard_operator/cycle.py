"""One turn of one job: observe, decide, act in the order that a Decision documents, the status last.

Killed between any two steps, the next turn begins anew and finds what was done: every effect can be repeated. What
fails in passing ends the turn; it is repeated after a while, and nothing later in the order has happened.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batchyard.api.errors import BatchyardError, InvalidError, TransientError
from batchyard.api.names import enqueuer_name, queue_name, workers_name
from batchyard.queue.jetstream_watch import JetStreamWatch
from batchyard.queue.port import QueueLost

from batchyard_operator.act.budget import Budget
from batchyard_operator.act.children import Children
from batchyard_operator.act.errors import NotThere, Refused
from batchyard_operator.act.status import Statuses, difference
from batchyard_operator.model import Decision, JobSeen, Key, Observation, Wanted
from batchyard_operator.observe.look import Looks
from batchyard_operator.observe.memory import Memory
from batchyard_operator.observe.parse import seconds

log = logging.getLogger(__name__)

TROUBLE = 15.0
"""Seconds of trouble with the API server after which the status says what it says."""

_AT_ONCE = 0.0
_LOOK = 5.0  # seconds to the next look at a job in which nothing moves, as decisions have it
_STRETCH = 4  # times as long at most

Decide = Callable[[Observation], Decision]
Render = Callable[[JobSeen, float, Wanted], list[dict[str, Any]]]
"""Returns the objects to apply; ``float``: when the job's queue was made, unix seconds. Raises InvalidError."""


@dataclass(frozen=True, slots=True)
class Making:
    """How a queue is made."""

    lease: float
    replicas: int


class Cycle:
    """The turns of one operator. ``turn`` is what its work queue runs."""

    def __init__(
        self,
        looks: Looks,
        decide: Decide,
        render: Render,
        children: Children,
        statuses: Statuses,
        queues: JetStreamWatch,
        making: Making,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._looks = looks
        self._decide = decide
        self._render = render
        self._children = children
        self._statuses = statuses
        self._queues = queues
        self._making = making
        self._budget = budget
        self._clock = clock

    async def turn(self, key: Key) -> float | None:
        """Run one turn; return the seconds until the next look, None for when something happens.

        Raises TransientError for what passes.
        """
        seen = await self._looks.look(key)
        if seen is None:
            self._looks.forget(key)
            return None
        memory = self._looks.memory(seen.job)
        decision = self._decide(seen)
        try:
            return await self._act(seen, decision, memory)
        except NotThere:
            self._looks.caches.drop_job(key, seen.job.uid)  # a watch that is late says so too
            return None
        except Refused as error:
            raise TransientError(f"the API server refuses: {error}") from error

    async def _act(self, seen: Observation, decision: Decision, memory: Memory) -> float | None:
        job = seen.job
        if decision.add_finalizer:
            await self._statuses.hold(job)
        if decision.make_queue:
            await self._make_queue(job, memory)
        if decision.halt is not None:
            await self._halt(job, decision.halt.reason, decision.halt.message)
        trouble = await self._apply(seen, decision.wanted, memory) if decision.wanted is not None else None
        if decision.remove_children:
            await self._children.remove(job, (workers_name(job.key.name), enqueuer_name(job.key.name)))
        if decision.drop_queue:
            await self._queues.delete(queue_name(job.uid))
        if decision.drop_finalizer:
            await self._statuses.let_go(job)
            return None
        later = await self._tell(seen, decision, memory)
        if decision.delete_job:
            await self._statuses.delete(job)
        if trouble is not None and (seen.apply_error or not memory.apply_error):
            raise trouble  # else the next turn says it first
        if (decision.add_finalizer or decision.make_queue or trouble) and not later:
            return _AT_ONCE
        return _next(seen, decision.again, later, memory.unchanged)

    # --- the queue ---
    async def _make_queue(self, job: JobSeen, memory: Memory) -> None:
        """Make the streams; what fails is told at the next turn, and no status says that they were made."""
        try:
            await self._queues.create(queue_name(job.uid), lease=self._making.lease, replicas=self._making.replicas)
        except BatchyardError as error:
            memory.making_failed = str(error)
            raise TransientError(f"the queue cannot be made: {error}") from error

    async def _halt(self, job: JobSeen, reason: str, message: str) -> None:
        try:
            await self._queues.halt(queue_name(job.uid), reason, message)
        except QueueLost as error:  # the next look finds it lost as well
            raise TransientError(str(error)) from error

    # --- children ---
    async def _apply(self, seen: Observation, wanted: Wanted, memory: Memory) -> TransientError | None:
        """Apply the children; return what is to be tried again, after the status was written."""
        job, now = seen.job, self._clock()
        started = seconds(job.status.get("startTime"))
        stands = (job.job, started, wanted, *self._children.specs(job))
        if memory.standing == stands:
            memory.apply_error = ""
            return None
        try:
            objects = self._render(job, started, wanted)
        except InvalidError as error:
            memory.apply_error = str(error)
            return None
        try:
            if not await self._children.apply(job, objects, memory, now) and not memory.apply_error:
                memory.standing = stands
        except (TransientError, NotThere) as error:  # a child, or its namespace, that is gone meanwhile
            memory.trouble_since = memory.trouble_since or now
            if now - memory.trouble_since >= TROUBLE:
                memory.apply_error = str(error)
            return error if isinstance(error, TransientError) else TransientError(str(error))
        memory.trouble_since = 0.0
        return None

    # --- what is said ---
    async def _tell(self, seen: Observation, decision: Decision, memory: Memory) -> float:
        """Write status and Events; return the seconds after which a status that may not be written yet may be."""
        job, status = seen.job, decision.status
        if status is not None and difference(job.status, status):
            now = self._clock()
            urgent = decision.urgent or _is_milestone(job.status, status)
            wait = self._budget.wait(now, memory.status_written, urgent=urgent)
            if wait > 0:
                return wait
            memory.status_written = now
            await self._statuses.write(job, status)
            log.debug("%s/%s: %s", job.key.namespace, job.key.name, status.get("state"))
        for event in decision.events:
            try:
                await self._statuses.tell(job, event)
            except (NotThere, Refused, TransientError) as error:
                log.warning("%s/%s: no Event %s: %s", job.key.namespace, job.key.name, event.reason, error)
        return 0.0


def _is_milestone(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether a status is waited for: by the children, which are made once a start is written, or by a user."""
    return any(before.get(name) != after.get(name) for name in ("startTime", "completionTime"))


def _next(seen: Observation, again: float | None, later: float, unchanged: int) -> float | None:
    """Return when to look again, spread a little so that a thousand jobs don't keep step.

    A job in which nothing happens is looked at more and more seldom, unless its time runs out: events wake it, and a
    queue that ends says so itself. What a decision gives a time of its own comes at that time.
    """
    if later > 0:
        return later if again is None else min(again, later)
    if again is None or again != _LOOK:
        return again
    job = seen.job.job
    has_timeout = job is not None and job.spec.timeout is not None
    stretch = 1 if has_timeout else min(_STRETCH, 1 + unchanged // 4)
    return again * stretch * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
