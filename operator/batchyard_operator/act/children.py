"""Makes, scales and removes a job's children, each step one that can be repeated.

Made by create and not by a forced apply: an object of that name that is somebody else's must be refused, never taken
over. What is there already and ours is brought up to date, and only where it differs: a Job by the three fields that
may change while it runs, the objects beside it by a patch that tests whose they are.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchyard.api.names import enqueuer_name, workers_name

from batchyard_operator.act.door import JSON, Door
from batchyard_operator.act.errors import Conflict, NotThere, Refused
from batchyard_operator.act.paths import JOBS, PODS, path, resource_of
from batchyard_operator.model import UID_LABEL, JobSeen
from batchyard_operator.observe.caches import OURS, TRACKED, WITH, Caches, ChildKept, PodKept
from batchyard_operator.observe.memory import Memory

Object = dict[str, Any]
Scaling = Callable[[Object], Object]
"""The merge patch for a Job that is there already, from the Job as it should be."""

REFUSED_PAUSE = 20.0
"""Seconds after which objects that were refused are tried again: a quota may have been raised meanwhile."""

_TEST_FAILED = "the server rejected our request"  # all that the API server says of a patch whose test fails
_TAKEN = "{kind} {name} is there already and is not this job's; rename the job, or remove it"


@dataclass(frozen=True, slots=True)
class Children:
    """The hands that a turn has on the children of jobs."""

    door: Door
    caches: Caches
    scaling: Scaling

    async def apply(self, seen: JobSeen, objects: Sequence[Object], memory: Memory, now: float) -> bool:
        """Make or change what differs, in the order given; return whether anything was.

        What was refused is not asked again for a while, and said in ``memory`` until it is taken. Raises Conflict
        and Unavailable.
        """
        beside = [each for each in objects if each["kind"] != "Job"]
        jobs = [each for each in objects if each["kind"] == "Job"]
        digest = _digest(beside)
        whole = _digest(objects)
        if memory.refused[0] == whole and now - memory.refused[1] < REFUSED_PAUSE:
            return False
        known = [self.caches.child_of(seen, each["metadata"]["name"]) for each in jobs]
        told = [memory.applied, *(kept.applied_with for kept in known if kept is not None)]
        stands = digest in told and not memory.doubt
        changed = False
        try:
            for each in () if stands else beside:
                await self._apply_beside(seen, each)
                changed = True
            memory.applied, memory.doubt = digest, False
            for each, kept in zip(jobs, known, strict=True):
                changed = await self._apply_job(seen, each, kept, digest) or changed
        except Refused as error:
            memory.apply_error, memory.refused = str(error), (whole, now)
            return changed
        memory.apply_error, memory.refused = "", ("", 0.0)
        return changed

    def specs(self, seen: JobSeen) -> tuple[object, ...]:
        """Return what ``apply`` compares of the child Jobs that are there."""
        kept = (
            self.caches.child_of(seen, each) for each in (workers_name(seen.key.name), enqueuer_name(seen.key.name))
        )
        return tuple(each and (each.seen.uid, each.completions, each.applied_with, each.shape) for each in kept)

    async def _apply_beside(self, seen: JobSeen, wanted: Object) -> None:
        resource, metadata = resource_of(wanted["kind"]), wanted["metadata"]
        try:
            await self.door.create(path(resource, seen.key.namespace), wanted)
        except Conflict:
            label = f"/metadata/labels/{UID_LABEL.replace('/', '~1')}"
            steps = [
                {"op": "test", "path": label, "value": seen.uid},
                {"op": "replace", "path": "/data", "value": wanted["data"]},
            ]
            try:
                await self.door.patch(path(resource, seen.key.namespace, metadata["name"]), steps, JSON)
            except Refused as error:
                if _TEST_FAILED not in str(error):
                    raise
                # an earlier job's of this name is collected any moment; one that stays is told after a while
                raise Conflict(_TAKEN.format(kind=wanted["kind"], name=metadata["name"])) from error

    async def _apply_job(self, seen: JobSeen, wanted: Object, kept: ChildKept | None, digest: str) -> bool:
        if kept is None:
            kept = await self._made(seen, wanted, digest)
            if kept is None:
                return True
        if kept.seen.complete or kept.seen.failed or kept.seen.is_deleting:
            return False
        change = self.scaling(wanted)
        spec = change["spec"]
        stands = (kept.completions, kept.seen.parallelism, kept.seen.suspended)
        if stands == (spec["completions"], spec["parallelism"], spec["suspend"]) and kept.applied_with == digest:
            return False
        change["metadata"] = {"uid": kept.seen.uid, "annotations": {WITH: digest}}
        name = wanted["metadata"]["name"]
        self.caches.see_child(OURS, await self.door.patch(path(JOBS, seen.key.namespace, name), change))
        return True

    async def _made(self, seen: JobSeen, wanted: Object, digest: str) -> ChildKept | None:
        """Make a Job; return None, or the one that is there already if it is this job's."""
        metadata, namespace = wanted["metadata"], seen.key.namespace
        named = {**wanted, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), WITH: digest}}}
        try:
            self.caches.see_child(OURS, await self.door.create(path(JOBS, namespace), named))
        except Conflict as error:
            try:
                found = await self.door.get(path(JOBS, namespace, metadata["name"]))
            except NotThere:
                raise Conflict(str(error)) from None  # gone since: make it at the next turn
            self.caches.see_child(OURS, found)
            kept = self.caches.child_of(seen, metadata["name"])
            if kept is None and (found["metadata"].get("labels") or {}).get(UID_LABEL) is None:
                raise Refused(_TAKEN.format(kind="Job", name=metadata["name"])) from None
            if kept is None:
                raise Conflict(f"Job {metadata['name']} is an earlier job's and not gone yet") from None
            return kept
        return None

    async def remove(self, seen: JobSeen, names: Sequence[str]) -> None:
        """Delete the child Jobs, their pods first, and pods that no Job owns any more.

        Raises Unavailable and Refused.
        """
        kept = [self.caches.child_of(seen, name) for name in names]
        gone: list[Awaitable[None]] = [
            self.door.delete(
                path(JOBS, seen.key.namespace, child.seen.name), child.seen.uid, propagation="Foreground"
            )
            for child in kept
            if child is not None and not child.seen.is_deleting
        ]
        gone += [self._remove_orphan(seen, pod) for pod in self.caches.orphans_of(seen)]
        await asyncio.gather(*gone)

    async def _remove_orphan(self, seen: JobSeen, pod: PodKept) -> None:
        """Delete a pod; its Job's controller, which would have let it go, has forgotten it."""
        where = path(PODS, seen.key.namespace, pod.seen.name)
        if not pod.seen.is_deleting:
            await self.door.delete(where, pod.uid, propagation="Background")
        elif pod.is_tracked:
            change = {"metadata": {"uid": pod.uid, "$deleteFromPrimitiveList/finalizers": [TRACKED]}}
            try:
                await self.door.patch(where, change, "application/strategic-merge-patch+json")
            except (NotThere, Conflict):
                return


def _digest(objects: Sequence[Mapping[str, Any]]) -> str:
    text = json.dumps(list(objects), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
