"""Why a job makes no progress, within a minute: an ordered chain of rules, from the widest cause to the narrowest.

A batch may take an hour, so a job in which a batch is in the hands of a live worker is never stalled. Troubles count
once they last, by the times that Kubernetes keeps, and what was told stays told for as long: nothing flaps.
"""

from collections.abc import Callable
from dataclasses import dataclass

from batchyard.api.status import ConditionType, StallReason
from batchyard.queue.ending import batches

from batchyard_operator.decide import pod_troubles
from batchyard_operator.decide.turn import Turn, clock, cut
from batchyard_operator.decide.words import container_of, newest_failure
from batchyard_operator.model import HANDLER, ChildSeen, PodSeen


@dataclass(frozen=True, slots=True)
class Stall:
    """Why nothing moves. ``reason``: one of StallReason; ``message`` names the pod and the container."""

    reason: str
    message: str


def stall(turn: Turn) -> Stall | None:
    """Return why the job makes no progress, None when it does, or is suspended."""
    if turn.is_suspended:
        return None
    found = _queue_away(turn)
    if found is None and turn.seen.queue.known != "away" and not _moves(turn):
        found = next((told for rule in _RULES if (told := rule(turn)) is not None), None)
    if found is None:
        return _told_just_now(turn)
    return Stall(found.reason, cut(found.message))


def _told_just_now(turn: Turn) -> Stall | None:
    """Keep what was told for a moment: a container that crashes is running now and then."""
    for was in turn.before.conditions:
        if was.type is ConditionType.STALLED and was.status == "True":
            age = turn.now - was.last_transition_time.timestamp()
            return Stall(was.reason, was.message) if age < turn.limits.debounce else None
    return None


def _moves(turn: Turn) -> bool:
    """Tell whether batches are in the hands of a live worker, or were settled within the last moments."""
    if turn.queue is None:
        return False
    counts = turn.queue.counts
    if counts.running and any(pod.is_ready for pod in turn.pods("worker")):
        return True
    recent = [s for s in turn.seen.history if turn.now - s.time <= turn.limits.debounce]
    return bool(recent) and counts.settled > recent[0].settled


def _queue_away(turn: Turn) -> Stall | None:
    queue = turn.seen.queue
    if queue.known != "away" or turn.now - queue.since < turn.limits.debounce:
        return None
    why = f": {queue.why}" if queue.why else ""
    return Stall(StallReason.QUEUE_UNAVAILABLE, f"the queue has not answered since {clock(queue.since)}{why}")


def _objects_refused(turn: Turn) -> Stall | None:
    if not turn.seen.apply_error:
        return None
    return Stall(StallReason.OBJECTS_REFUSED, f"the API server refuses the job's objects: {turn.seen.apply_error}")


def _enqueuer(turn: Turn) -> Stall | None:
    if not turn.reads_files or turn.is_sealed:
        return None
    pods = turn.pods("enqueuer")
    if any(pod.is_ready for pod in pods):
        return None
    return _trouble(turn, turn.seen.enqueuer, pods, StallReason.ENQUEUER_FAILING)


def _workers(turn: Turn) -> Stall | None:
    # until it has published the items the others wait for it
    pods = turn.first_worker if turn.publishes_by_worker else turn.pods("worker")
    if _steady(turn, pods):
        return None
    return _trouble(turn, turn.seen.workers, pods, StallReason.WORKERS_FAILING)


def _steady(turn: Turn, pods: list[PodSeen]) -> bool:
    """Tell whether a worker is up, and not only between two of its crashes."""
    has_failed = newest_failure(pods) is not None
    for pod in pods:
        handler = container_of(pod, HANDLER)
        age = turn.now - (handler.since if handler is not None else pod.created)
        if pod.is_ready and not (has_failed and age < turn.limits.debounce):
            return True
    return False


def _trouble(turn: Turn, child: ChildSeen | None, pods: list[PodSeen], failing: StallReason) -> Stall | None:
    """Return what keeps the pods of one Job from running."""
    limits, now = turn.limits, turn.now
    alive = [pod for pod in pods if pod.phase not in ("Failed", "Succeeded") and not pod.is_deleting]
    if not alive and child is not None and child.events and now - child.created >= limits.debounce:
        return Stall(StallReason.PODS_REFUSED, f"the pods of Job {child.name} are refused: {child.events[-1]}")
    found = pod_troubles.worst(alive, now, limits, turn.seen.mount_failures)
    if found is not None:
        return Stall(*found)
    failure = newest_failure(pods)
    if failure is not None:
        return Stall(failing, f"{failure}; it is tried again, after longer and longer waits")
    waiting = pod_troubles.waiting(alive, now, limits)
    if waiting is not None:
        return Stall(*waiting)
    since = child.created if child is not None else turn.started
    if not alive and since is not None and now - since >= limits.patience:
        what = f"Job {child.name} has made no pod" if child is not None else "the Jobs of the job are not made"
        return Stall(StallReason.PODS_NOT_STARTING, f"{what} since {clock(since)}")
    return None


def _no_batch_runs(turn: Turn) -> Stall | None:
    """Tell that workers are ready and hold nothing, for as long as the history knows."""
    queue = turn.queue
    if queue is None or not queue.sealed or queue.counts.running or not queue.counts.pending:
        return None
    history = turn.seen.history
    if not history or turn.now - history[0].time < turn.limits.patience:
        return None
    late = [s for s in history if turn.now - s.time <= turn.limits.patience]
    if any(s.running or s.settled != queue.counts.settled for s in late):
        return None
    ready = sum(pod.is_ready for pod in turn.pods("worker"))
    return Stall(
        StallReason.NO_BATCH_RUNS,
        f"{batches(queue.counts.pending)} queued, workers ready: {ready:,}, none runs: the batches wait for their "
        "next attempt (spec.retry.backoff), or the handlers are still being constructed; see the workers' logs",
    )


_RULES: tuple[Callable[[Turn], Stall | None], ...] = (_objects_refused, _enqueuer, _workers, _no_batch_runs)
