"""One look at a job: from the caches, the queue and the memory of earlier turns to one frozen Observation."""

import time
from collections.abc import Callable
from dataclasses import replace

from batchyard.api.names import enqueuer_name, queue_name, workers_name
from batchyard.queue.jetstream_watch import JetStreamWatch
from batchyard.queue.port import FailedBatch, QueueLost, QueueUnavailable, State

from batchyard_operator.model import JobSeen, Key, Observation, QueueSeen, Sample
from batchyard_operator.observe.caches import Caches
from batchyard_operator.observe.lookups import Get, look_up
from batchyard_operator.observe.memory import Memory

RECENT = 10
"""Failed batches that a status may show."""

LOST_PATIENCE = 5.0
"""Seconds for which a queue must be gone before it counts as lost: a server that starts may not know it yet."""


class Looks:
    """The looks of one operator, with what is remembered between them."""

    def __init__(
        self, caches: Caches, queues: JetStreamWatch, get: Get, clock: Callable[[], float] = time.time
    ) -> None:
        self.caches = caches
        self.memories: dict[Key, Memory] = {}
        self._queues = queues
        self._get = get
        self._clock = clock

    def memory(self, seen: JobSeen) -> Memory:
        """Return what is remembered of this very job."""
        known = self.memories.get(seen.key)
        if known is None or known.uid != seen.uid:
            known = self.memories[seen.key] = Memory(seen.uid)
        return known

    def forget(self, key: Key) -> None:
        """Forget a job that is gone."""
        if (known := self.memories.pop(key, None)) is not None:
            self._queues.forget(queue_name(known.uid))

    def away(self) -> list[Key]:
        """Return the jobs whose queue did not answer at their last look."""
        return [key for key, known in self.memories.items() if known.away_since]

    async def look(self, key: Key) -> Observation | None:
        """Return what there is to see of a job; None when it is gone.

        The children are seen first and the queue then, so that a Job seen ended has left its word in the queue.
        """
        kept = self.caches.jobs.get(key)
        if kept is None:
            return None
        seen, memory = kept.seen, self.memory(kept.seen)
        workers = self.caches.child_of(seen, workers_name(key.name))
        enqueuer = self.caches.child_of(seen, enqueuer_name(key.name))
        pods = self.caches.pods_of(seen)
        now = self._clock()
        if not seen.is_deleting:
            await look_up(self._get, key.namespace, now, memory, (workers, enqueuer), pods)
        queue, history = await self._queue(seen, memory)
        return Observation(
            now=self._clock(),
            job=seen,
            queue=queue,
            workers=replace(workers.seen, events=memory.refusals) if workers else None,
            enqueuer=replace(enqueuer.seen, events=memory.enqueuer_refusals) if enqueuer else None,
            pods=tuple(pod.seen for pod in pods),
            history=history,
            mount_failures=memory.mount_failures,
            apply_error=memory.apply_error,
        )

    async def _queue(self, seen: JobSeen, memory: Memory) -> tuple[QueueSeen, tuple[Sample, ...]]:
        now = self._clock()
        if seen.is_deleting:
            return QueueSeen("unmade"), ()  # whatever it holds is given up
        if not seen.status.get("startTime"):
            return self._unmade(memory, now), ()
        name = queue_name(seen.uid)
        try:
            state = await self._queues.state(name)
            recent = await self._recent(name, memory, state)
        except QueueLost as error:
            memory.lost_since = memory.lost_since or now
            if now - memory.lost_since >= LOST_PATIENCE:
                memory.away_since = 0.0
                return QueueSeen("lost", why=str(error)), ()
            return self._away(memory, now, str(error)), tuple(memory.history)
        except QueueUnavailable as error:
            memory.lost_since = 0.0
            return self._away(memory, now, str(error)), tuple(memory.history)
        memory.lost_since = memory.away_since = 0.0
        memory.unchanged = memory.unchanged + 1 if state == memory.state else 0
        memory.state = state
        return QueueSeen("here", state, recent), memory.remember(now, state)

    def _unmade(self, memory: Memory, now: float) -> QueueSeen:
        """Tell why a queue could not be made, once, so that the status says so; then it is tried again."""
        if memory.making_failed:
            why, memory.making_failed = memory.making_failed, ""
            return self._away(memory, now, why)
        return QueueSeen("unmade")

    def _away(self, memory: Memory, now: float, why: str) -> QueueSeen:
        memory.away_since = memory.away_since or now
        return QueueSeen("away", why=why, since=memory.away_since)

    async def _recent(self, name: str, memory: Memory, state: State) -> tuple[FailedBatch, ...]:
        if state.counts.failed != memory.failed:
            memory.recent = tuple(await self._queues.recent_failures(name, RECENT))
            memory.failed = state.counts.failed
        return memory.recent
