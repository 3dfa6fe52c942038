"""What keeps a pod from running, as Kubernetes says it: each trouble has its place (docs/troubleshooting.md).

Apart from ``stalls`` because this is knowledge of Kubernetes, not of jobs. A trouble is a reason of StallReason and a
sentence; the one of the first pod is told, with how many others share it.
"""

from collections.abc import Callable, Sequence

from batchyard.api.status import StallReason

from batchyard_operator.decide.turn import Limits, clock
from batchyard_operator.decide.words import container_of, ended
from batchyard_operator.model import FETCH, SERVING, PodSeen

Trouble = tuple[StallReason, str]
"""A reason, and a sentence."""

_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CONFIG = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
_BEHIND = frozenset({"", "PodInitializing"})  # it waits for another container
_MAKING = _BEHIND | {"ContainerCreating"}


def worst(pods: Sequence[PodSeen], now: float, limits: Limits, mounts: Sequence[str]) -> Trouble | None:
    """Return the trouble of pods that won't start by themselves, the gravest first; None without any."""
    old = [pod for pod in pods if now - pod.created >= limits.debounce]
    for rule in _ERRORS:
        found = [(pod, told) for pod in old if (told := rule(pod)) is not None]
        if found:
            return _told(found)
    stuck = [(pod, (StallReason.VOLUME_UNAVAILABLE, f": {mounts[-1]}")) for pod in old if mounts and _is_made(pod)]
    return _told(stuck) if stuck else None


def waiting(pods: Sequence[PodSeen], now: float, limits: Limits) -> Trouble | None:
    """Return what pods that are on their way wait for, once it takes long; None when nothing takes long."""
    for rule in _WAITS:
        found = [(pod, told) for pod in pods if (told := rule(pod)) is not None]
        late = [
            (pod, (reason, f"{said} since {clock(since)}"))
            for pod, (reason, said, since) in found
            if now - since >= limits.patience
        ]
        if late:
            return _told(late)
    return None


def _told(found: Sequence[tuple[PodSeen, Trouble]]) -> Trouble:
    pod, (reason, said) = found[0]
    others = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
    return reason, f"pod {pod.name}{others}{said}"


def _unscheduled(pod: PodSeen) -> Trouble | None:
    if not pod.unscheduled and not pod.unscheduled_reason:
        return None
    said = pod.unscheduled or pod.unscheduled_reason
    if pod.unscheduled_reason == "SchedulingGated":
        return StallReason.SCHEDULING_GATED, f" is held back by its scheduling gates: {said}"
    return StallReason.UNSCHEDULABLE, f" fits on no node: {said}"


def _image(pod: PodSeen) -> Trouble | None:
    return _waits_for(pod, _IMAGE, StallReason.IMAGE_UNAVAILABLE, "can't pull its image")


def _config(pod: PodSeen) -> Trouble | None:
    return _waits_for(pod, _CONFIG, StallReason.CONTAINER_CONFIG_INVALID, "can't be made")


def _waits_for(pod: PodSeen, reasons: frozenset[str], reason: StallReason, what: str) -> Trouble | None:
    for container in pod.containers:
        if container.waiting in reasons:
            said = f": {container.message}" if container.message else ""
            return reason, f": container {container.name} {what} ({container.waiting}){said}"
    return None


def _server(pod: PodSeen) -> Trouble | None:
    serving = container_of(pod, SERVING)
    if serving is None or serving.started or not serving.restarts:
        return None
    times = "once" if serving.restarts == 1 else f"{serving.restarts} times"
    return StallReason.SERVER_FAILING, f": {ended(serving)}; restarted {times}, its models are not loaded"


def _is_made(pod: PodSeen) -> bool:
    """Tell whether a pod has a node and none of its containers has begun."""
    if pod.phase != "Pending" or pod.unscheduled or pod.unscheduled_reason:
        return False
    return all(c.waiting in _MAKING and not c.terminated and not c.since for c in pod.containers)


Wait = tuple[StallReason, str, float]
"""A reason, a sentence, and since when, unix seconds."""


def _fetching(pod: PodSeen) -> Wait | None:
    fetch = container_of(pod, FETCH)
    if fetch is None or fetch.terminated or not fetch.since:
        return None
    return StallReason.FETCHING, ": the project, the models or the dependencies are being fetched", fetch.since


def _loading(pod: PodSeen) -> Wait | None:
    serving = container_of(pod, SERVING)
    if serving is None or serving.started or serving.waiting or serving.terminated or not serving.since:
        return None
    return StallReason.MODELS_LOADING, ": the models are loading", serving.since


def _not_starting(pod: PodSeen) -> Wait | None:
    """Tell of a pod that is not ready, by the newest moment known of it."""
    if pod.is_ready:
        return None
    begun = max([pod.created, *(c.since for c in pod.containers)])
    waits = [f"container {c.name} waits ({c.waiting})" for c in pod.containers if c.waiting not in _BEHIND]
    return StallReason.PODS_NOT_STARTING, f": {waits[0] if waits else 'not ready'}", begun


_ERRORS: tuple[Callable[[PodSeen], Trouble | None], ...] = (_unscheduled, _image, _config, _server)
_WAITS: tuple[Callable[[PodSeen], Wait | None], ...] = (_fetching, _loading, _not_starting)
