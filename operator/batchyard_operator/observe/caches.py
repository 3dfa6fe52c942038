"""What the watches told last: BatchJobs, child Jobs and pods by job, as values and never raw.

The answers to our own writes are put here too, so that the next turn sees what the last one did, however late the
watch is. Resource versions tell what is newer: they are numbers that grow (Kubernetes says so since 1.35).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from batchyard_operator.model import JOB_LABEL, UID_LABEL, ChildSeen, JobSeen, Key, PodSeen
from batchyard_operator.observe import parse
from batchyard_operator.observe.parse import Raw

WITH = "batchyard.dev/applied-with"
"""Annotation of the workers' Job: the digest of the objects beside it that its pods start from."""

OURS = "OURS"
"""In the place of an event: the answer to a write of ours, which is no news."""

TRACKED = "batch.kubernetes.io/job-tracking"
_REMEMBERED = 4096


class Change(Enum):
    """What an event means for its job's turn."""

    NONE = "none"  # nothing a turn looks at
    SOME = "some"
    URGENT = "urgent"  # new, deleted, or another spec


@dataclass(frozen=True, slots=True)
class JobKept:
    """A BatchJob, and what a patch of its finalizers needs."""

    version: int
    seen: JobSeen
    finalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChildKept:
    """A child Job: whose it is, and what a patch compares. ``owner``: the uid in its label."""

    version: int
    owner: str
    seen: ChildSeen
    completions: int
    applied_with: str

    @property
    def shape(self) -> tuple[int, bool, bool]:
        """Its parallelism, whether it is suspended, and whether it is over or being deleted."""
        seen = self.seen
        return seen.parallelism, seen.suspended, seen.complete or seen.failed or seen.is_deleting


@dataclass(frozen=True, slots=True)
class PodKept:
    """A pod: whose it is (the job's uid in its label), which Job owns it, and whether it has a node."""

    version: int
    owner: str
    seen: PodSeen
    uid: str
    job_uid: str
    has_node: bool
    is_tracked: bool


Kept = JobKept | ChildKept | PodKept


class Caches:
    """The three caches. ``changed`` is called with a key and what happened to it."""

    def __init__(self, changed: Callable[[Key, Change], None]) -> None:
        self._changed = changed
        self.jobs: dict[Key, JobKept] = {}
        self.children: dict[Key, dict[str, ChildKept]] = {}
        self.pods: dict[Key, dict[str, PodKept]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()  # uids: a late answer must not bring one back

    # --- events ---
    def see_job(self, event: str | None, raw: Raw) -> None:
        """Take a watch event of a BatchJob, or the answer to a write of ours."""
        key = _key(raw)
        before = self.jobs.get(key)
        if event == "DELETED":
            if before is not None and before.seen.uid == raw["metadata"]["uid"]:
                self.drop_job(key, before.seen.uid)
            self._bury(raw)
            return
        version = _version(raw)
        if self._is_stale(raw, before):
            return
        seen = self._job_seen(raw, before)
        self.jobs[key] = JobKept(version, seen, tuple(raw["metadata"].get("finalizers") or ()))
        if event != OURS and (change := _job_change(before, seen)) is not Change.NONE:
            self._changed(key, change)

    def _job_seen(self, raw: Raw, before: JobKept | None) -> JobSeen:
        metadata = raw["metadata"]
        if before and (before.seen.uid, before.seen.generation) == (metadata["uid"], metadata.get("generation", 0)):
            return parse.job_seen(raw, before.seen.job, before.seen.problems)
        return parse.job_seen(raw, *parse.parsed(raw))

    def see_child(self, event: str | None, raw: Raw) -> None:
        """Take a watch event of a child Job, or the answer to a write of ours."""
        key, metadata = _key_of_job(raw), raw["metadata"]
        before = self.children.get(key, {}).get(metadata["name"])
        if event == "DELETED":
            if before is not None and before.seen.uid == metadata["uid"]:
                self._drop(self.children, key, metadata["name"])
            self._bury(raw)
            return
        if self._is_stale(raw, before):
            return
        kept = ChildKept(
            version=_version(raw),
            owner=(metadata.get("labels") or {}).get(UID_LABEL, ""),
            seen=parse.child_seen(raw),
            completions=(raw.get("spec") or {}).get("completions", 1),
            applied_with=(metadata.get("annotations") or {}).get(WITH, ""),
        )
        self.children.setdefault(key, {})[metadata["name"]] = kept
        if event != OURS and (before is None or _without_version(before) != _without_version(kept)):
            self._changed(key, Change.SOME)

    def see_pod(self, event: str | None, raw: Raw) -> None:
        """Take a watch event of a pod, or the answer to a write of ours."""
        key, metadata = _key_of_job(raw), raw["metadata"]
        before = self.pods.get(key, {}).get(metadata["name"])
        if event == "DELETED":
            if before is not None and before.uid == metadata["uid"]:
                self._drop(self.pods, key, metadata["name"])
            self._bury(raw)
            return
        if self._is_stale(raw, before):
            return
        owners = metadata.get("ownerReferences") or ()
        kept = PodKept(
            version=_version(raw),
            owner=(metadata.get("labels") or {}).get(UID_LABEL, ""),
            seen=parse.pod_seen(raw),
            uid=metadata["uid"],
            job_uid=next((o["uid"] for o in owners if o.get("controller")), ""),
            has_node=bool((raw.get("spec") or {}).get("nodeName")),
            is_tracked=TRACKED in (metadata.get("finalizers") or ()),
        )
        self.pods.setdefault(key, {})[metadata["name"]] = kept
        if event != OURS and (before is None or _without_version(before) != _without_version(kept)):
            self._changed(key, Change.SOME)

    # --- what a turn reads ---
    def child_of(self, seen: JobSeen, name: str) -> ChildKept | None:
        """Return the child Job of this name, if it is this very job's."""
        kept = self.children.get(seen.key, {}).get(name)
        return kept if kept is not None and kept.owner == seen.uid else None

    def pods_of(self, seen: JobSeen) -> list[PodKept]:
        """Return the pods of this very job."""
        return [kept for kept in self.pods.get(seen.key, {}).values() if kept.owner == seen.uid]

    def orphans_of(self, seen: JobSeen) -> list[PodKept]:
        """Return the pods of this very job whose Job is gone."""
        jobs = {kept.seen.uid for kept in self.children.get(seen.key, {}).values()}
        return [kept for kept in self.pods_of(seen) if kept.job_uid not in jobs]

    def everything(self) -> Iterator[tuple[str, str, Key, str, int]]:
        """Yield kind (jobs, children, pods), uid, key, name and version of all that is kept."""
        for key, job in self.jobs.items():
            yield "jobs", job.seen.uid, key, key.name, job.version
        for key, children in self.children.items():
            for name, child in children.items():
                yield "children", child.seen.uid, key, name, child.version
        for key, pods in self.pods.items():
            for name, pod in pods.items():
                yield "pods", pod.uid, key, name, pod.version

    def uids(self) -> set[str]:
        """Return the uids of all that is kept."""
        return {uid for _, uid, _, _, _ in self.everything()}

    def is_gone(self, uid: str) -> bool:
        """Whether an object was seen deleted lately."""
        return uid in self._gone

    # --- what vanished unseen ---
    def drop_job(self, key: Key, uid: str) -> None:
        """Forget a BatchJob that is gone; one that was made since under its name stays."""
        self._remember_gone(uid)
        if (kept := self.jobs.get(key)) is not None and kept.seen.uid == uid:
            del self.jobs[key]
            self._changed(key, Change.URGENT)

    def drop(self, kind: str, key: Key, name: str, uid: str) -> None:
        """Forget whatever ``everything`` told of."""
        if kind == "jobs":
            self.drop_job(key, uid)
            return
        self._remember_gone(uid)
        if kind == "children":
            self._drop(self.children, key, name)
        else:
            self._drop(self.pods, key, name)

    def _drop(self, kept: dict[Key, dict[str, Any]], key: Key, name: str) -> None:
        entries = kept.get(key)
        if entries is not None and entries.pop(name, None) is not None:
            if not entries:
                del kept[key]
            self._changed(key, Change.SOME)

    def _bury(self, raw: Raw) -> None:
        self._remember_gone(raw["metadata"]["uid"])

    def _remember_gone(self, uid: str) -> None:
        self._gone[uid] = None
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    def _is_stale(self, raw: Raw, before: Kept | None) -> bool:
        """Tell whether what is kept is newer, be it another object that took the name."""
        return raw["metadata"]["uid"] in self._gone or (before is not None and _version(raw) <= before.version)


def _job_change(before: JobKept | None, seen: JobSeen) -> Change:
    if before is None or before.seen.uid != seen.uid or before.seen.generation != seen.generation:
        return Change.URGENT
    if before.seen.is_deleting != seen.is_deleting:
        return Change.URGENT
    return Change.NONE if before.seen == seen else Change.SOME


def _without_version(kept: ChildKept | PodKept) -> tuple[Any, ...]:
    if isinstance(kept, ChildKept):
        return (kept.owner, kept.seen, kept.completions, kept.applied_with)
    return (kept.owner, kept.seen, kept.uid, kept.job_uid, kept.has_node, kept.is_tracked)


def _key(raw: Raw) -> Key:
    return Key(raw["metadata"]["namespace"], raw["metadata"]["name"])


def _key_of_job(raw: Raw) -> Key:
    metadata = raw["metadata"]
    return Key(metadata["namespace"], (metadata.get("labels") or {}).get(JOB_LABEL, ""))


def _version(raw: Raw) -> int:
    return version_of(raw["metadata"])


def version_of(metadata: Raw) -> int:
    """Return an object's resource version as the number it is."""
    return int(metadata.get("resourceVersion") or 0)
