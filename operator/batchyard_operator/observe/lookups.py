"""Events of Jobs and pods: why pods are missing or wait. Asked for only then: the API server has no index of them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from batchyard.api.errors import BatchyardError
from batchyard.api.names import queue_secret_name

from batchyard_operator.model import ChildSeen
from batchyard_operator.observe.caches import ChildKept, PodKept
from batchyard_operator.observe.memory import Memory

PATIENCE = 10.0
"""Seconds that a pod may be missing or wait before anybody is asked why."""

_PAUSE, _LONGEST_PAUSE = 15.0, 240.0  # seconds between two lookups of a job, twice as long each time
_NEWEST = 3

Get = Callable[[str, Mapping[str, str]], Awaitable[dict[str, Any]]]
"""Returns the object at a path, with a query."""


async def look_up(
    get: Get,
    namespace: str,
    now: float,
    memory: Memory,
    children: tuple[ChildKept | None, ChildKept | None],
    pods: list[PodKept],
) -> None:
    """Put into ``memory`` what Events say of children without pods, and of pods that wait with a node.

    What was found stays until its cause is gone. An API server that doesn't answer is asked again later.
    """
    wanting = [child is not None and _wants_pods(child.seen, pods, now) for child in children]
    waiting = [pod for pod in pods if _waits(pod, now)]
    if not wanting[0]:
        memory.refusals = ()
    if not wanting[1]:
        memory.enqueuer_refusals = ()
    if not waiting:
        memory.mount_failures = ()
    bereft = any(_lacks_our_secret(pod) for pod in pods)
    if not (any(wanting) or waiting or bereft):
        memory.lookups = 0
        return
    # a thousand jobs may wait behind a quota for hours, and each lookup reads all Events of a namespace
    if now - memory.looked_up < min(_LONGEST_PAUSE, _PAUSE * 2 ** max(0, min(memory.lookups, 10) - 1)):
        return
    memory.looked_up = now
    memory.lookups += 1
    if bereft:
        memory.doubt, memory.standing = True, ()
    try:
        if wanting[0] and children[0] is not None:
            memory.refusals = await _messages(get, namespace, children[0].seen.uid, "FailedCreate")
        if wanting[1] and children[1] is not None:
            memory.enqueuer_refusals = await _messages(get, namespace, children[1].seen.uid, "FailedCreate")
        if waiting:
            first = min(waiting, key=lambda pod: (pod.seen.created, pod.seen.name))
            memory.mount_failures = await _messages(get, namespace, first.uid, "FailedMount")
            if memory.mount_failures:
                memory.doubt, memory.standing = True, ()  # what it mounts may have been deleted by hand
    except BatchyardError:
        return


def _wants_pods(child: ChildSeen, pods: list[PodKept], now: float) -> bool:
    if child.suspended or child.complete or child.failed or child.is_deleting or now - child.created < PATIENCE:
        return False
    alive = [p for p in pods if p.job_uid == child.uid and p.seen.phase not in ("Succeeded", "Failed")]
    return len(alive) < child.parallelism and not any(pod.seen.is_ready for pod in alive)


def _waits(pod: PodKept, now: float) -> bool:
    seen = pod.seen
    if seen.phase != "Pending" or seen.is_deleting or not pod.has_node or now - seen.created < PATIENCE:
        return False
    return not any(container.since for container in seen.containers)  # none has begun


def _lacks_our_secret(pod: PodKept) -> bool:
    """Tell whether a container can't be made without the queue's Secret: somebody deleted it. No Event says so."""
    missing = f'{queue_secret_name("")}" not found'
    return any(c.waiting == "CreateContainerConfigError" and missing in c.message for c in pod.seen.containers)


async def _messages(get: Get, namespace: str, uid: str, reason: str) -> tuple[str, ...]:
    """Return the newest messages of one reason about one object, the newest last."""
    selector = f"involvedObject.uid={uid},reason={reason}"
    found = await get(f"/api/v1/namespaces/{namespace}/events", {"fieldSelector": selector, "limit": "100"})
    events = sorted(found.get("items") or (), key=_time)
    return tuple(dict.fromkeys(event.get("message") or "" for event in events[-_NEWEST:]))


def _time(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max((time for time in times if time), default=str(event["metadata"].get("creationTimestamp") or ""))
