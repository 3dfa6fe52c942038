"""Writes what a turn says of the BatchJob itself: its status, its finalizer, Events, its deletion."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchyard.api.spec import API_VERSION, KIND

from batchyard_operator.act.door import MANAGER, Door
from batchyard_operator.act.errors import Conflict, NotThere
from batchyard_operator.act.paths import BATCHJOBS, EVENTS, path
from batchyard_operator.model import FINALIZER, JobSeen, Told
from batchyard_operator.observe.caches import OURS, Caches

_NOTE = 1024  # characters that the API server takes of an Event's message


@dataclass(frozen=True, slots=True)
class Statuses:
    """The hands that a turn has on a BatchJob. What is answered goes into the caches."""

    door: Door
    caches: Caches

    async def write(self, seen: JobSeen, status: Mapping[str, Any]) -> None:
        """Write what differs from the status that stands. Raises NotThere, Conflict, Refused, Unavailable."""
        change = difference(seen.status, status)
        if not change:
            return
        body = {"metadata": {"uid": seen.uid}, "status": change}
        where = path(BATCHJOBS, seen.key.namespace, seen.key.name, "status")
        self.caches.see_job(OURS, await self.door.patch(where, body))

    async def hold(self, seen: JobSeen) -> None:
        """Add our finalizer. Raises as ``write``; Conflict when others' finalizers changed meanwhile."""
        await self._finalizers(seen, add=True)

    async def let_go(self, seen: JobSeen) -> None:
        """Remove our finalizer; a job that is gone is fine."""
        try:
            await self._finalizers(seen, add=False)
        except NotThere:
            return

    async def _finalizers(self, seen: JobSeen, *, add: bool) -> None:
        kept = self.caches.jobs.get(seen.key)
        if kept is None or kept.seen.uid != seen.uid:
            raise NotThere(f"BatchJob {seen.key.namespace}/{seen.key.name} is gone")
        others = [each for each in kept.finalizers if each != FINALIZER]
        finalizers = [*others, FINALIZER] if add else others
        if finalizers == list(kept.finalizers):
            return
        metadata = {"uid": seen.uid, "resourceVersion": str(kept.version), "finalizers": finalizers}
        where = path(BATCHJOBS, seen.key.namespace, seen.key.name)
        try:
            answer = await self.door.patch(where, {"metadata": metadata})
        except Conflict:
            fresh = await self.door.get(where)
            self.caches.see_job(OURS, fresh)
            raise
        if answer.get("metadata", {}).get("deletionTimestamp") and not answer["metadata"].get("finalizers"):
            self.caches.drop_job(seen.key, seen.uid)  # that was the last thing that held it
        else:
            self.caches.see_job(OURS, answer)

    async def tell(self, seen: JobSeen, told: Told) -> None:
        """Write an Event on the BatchJob. Raises as ``write``."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{seen.key.name}.{time.time_ns():x}", "namespace": seen.key.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": seen.key.namespace,
                "name": seen.key.name,
                "uid": seen.uid,
            },
            "type": told.type,
            "reason": told.reason,
            "message": told.message[:_NOTE],
            "source": {"component": MANAGER},
            "reportingComponent": MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self.door.create(path(EVENTS, seen.key.namespace), event)

    async def delete(self, seen: JobSeen) -> None:
        """Delete the BatchJob; our finalizer then gives back what it holds."""
        where = path(BATCHJOBS, seen.key.namespace, seen.key.name)
        await self.door.delete(where, seen.uid, propagation="Background")


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch from one JSON object to another: what is gone is None, lists are replaced whole."""
    change: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        was = before.get(name)
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            if inner := difference(was, value):
                change[name] = inner
        elif name not in before or was != value:
            change[name] = value
    return change
