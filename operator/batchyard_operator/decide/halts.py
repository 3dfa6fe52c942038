"""Why a job is stopped before its end: an ordered chain of rules, each with the reason that the queue is halted with.

They are asked only while the queue is there and not over. The halt is what ends the job: its status says Failed once
the queue says so, and workers stop by the same word. A halt that was first (a worker's own) stays.
"""

from collections.abc import Callable

from batchyard.api.status import Reason

from batchyard_operator.decide.turn import Turn, cut
from batchyard_operator.decide.words import TERMINATED, container_of, ended, newest_failure, refusal_of
from batchyard_operator.model import FETCH, SERVING, ChildSeen, Halting, PodSeen

_RESTARTS = 3  # a server that ended fewer times may have had to wait long for its image first

_GIVEN_UP = 5
"""Restarts of a model server that never loaded its models after which it is given up: with the kubelet's waits
between them two and a half minutes, in which a volume or a neighbour's memory may come back."""


def halting(turn: Turn) -> Halting | None:
    """Return the first reason to stop the job, None when it may go on."""
    for rule in _RULES:
        found = rule(turn)
        if found is not None:
            return Halting(found.reason, cut(found.message))
    return None


def _overdue(turn: Turn) -> Halting | None:
    """Stop a job that ran longer than its time; while it is suspended its time stands still."""
    job = turn.seen.job.job
    left = deadline(turn)
    if job is None or left is None or left > 0:
        return None
    return Halting(Reason.DEADLINE_EXCEEDED, f"the job ran longer than spec.timeout, {job.spec.timeout}")


def deadline(turn: Turn) -> float | None:
    """Return the seconds until ``spec.timeout``, counted from the start or the last resume; None without one."""
    job = turn.seen.job.job
    if job is None or job.spec.timeout is None or turn.is_suspended or turn.started is None:
        return None
    return turn.going_since + job.spec.timeout.seconds - turn.now


def _enqueuer_failed(turn: Turn) -> Halting | None:
    """Stop a job whose input will never be whole."""
    child = turn.seen.enqueuer
    if child is None or turn.is_sealed or child.is_deleting or not (child.failed or child.complete):
        return None
    pods = turn.pods("enqueuer")
    refusal = refusal_of(pods)
    if refusal is not None:
        return Halting(Reason.INPUT_INVALID, refusal[1])
    if child.complete:
        return Halting(Reason.ENQUEUER_FAILED, "the enqueuer ended, and not every batch is queued")
    why = newest_failure(pods)
    return Halting(Reason.ENQUEUER_FAILED, _given_up("the enqueuer failed again and again", child, why))


def _refused_in_a_pod(turn: Turn) -> Halting | None:
    """Stop a job in whose worker something of the user's was refused, and which could not say so to the queue."""
    refusal = refusal_of(turn.pods("worker"))
    if refusal is None:
        return None
    container, said = refusal
    job = turn.seen.job.job
    serves = job is not None and job.spec.handler.type == "tensorflow"
    is_model = container == SERVING or (container == FETCH and serves)
    return Halting(Reason.MODEL_INVALID if is_model else Reason.HANDLER_INVALID, said)


def _workers_failed(turn: Turn) -> Halting | None:
    """Stop a job whose workers' Job is over while batches are left: nobody would run them."""
    child = turn.seen.workers
    if child is None or child.is_deleting or not (child.failed or child.complete):
        return None
    if child.complete and not child.failed:
        return Halting(Reason.WORKERS_FAILED, "every worker ended as if the job were done, and batches are left")
    why = newest_failure(turn.pods("worker"))
    return Halting(Reason.WORKERS_FAILED, _given_up("workers failed again and again", child, why))


def _publisher_failed(turn: Turn) -> Halting | None:
    """Stop a job with inline items whose first worker is given up before it has queued them."""
    child = turn.seen.workers
    if child is None or not turn.publishes_by_worker or child.failed_indexes.split(",")[0].split("-")[0] != "0":
        return None
    what = "worker 0, which queues the items of the manifest, failed again and again"
    return Halting(Reason.ENQUEUER_FAILED, _given_up(what, child, newest_failure(turn.first_worker)))


def _given_up(what: str, child: ChildSeen, why: str | None) -> str:
    if why is not None:
        return f"{what}, the last time: {why}"
    said = ": ".join(part for part in (child.failed_reason, child.failed_message) if part)
    return f"{what}{f' ({said})' if said else ''}"


def _models_never_loaded(turn: Turn) -> Halting | None:
    """Stop a job no server of which has ever loaded its models within the time for it, or in six starts.

    A job that settled a batch has models that load: what is slow then is the cluster. A server that has not begun
    (its image is being pulled, say) is not late.
    """
    queue, pods = turn.queue, turn.pods("worker")
    if turn.is_suspended or queue is None or queue.counts.settled or queue.counts.running:
        return None
    if any((serving := container_of(pod, SERVING)) is not None and serving.started for pod in pods):
        return None
    late = [(since, pod.name, pod) for pod in pods if (since := loading_since(pod)) is not None]
    if not late:
        return None
    pod = min(late)[2]
    serving = container_of(pod, SERVING)
    restarts = serving.restarts if serving else 0
    is_late = turn.now - min(late)[0] > turn.limits.startup
    if not is_late and restarts < _GIVEN_UP:
        return None
    limit = f"the models did not load within {turn.limits.startup:,.0f} s" if is_late else "the models never loaded"
    if serving is None or not restarts:
        return Halting(Reason.MODEL_INVALID, f"{limit} in pod {pod.name}")
    times = "once" if restarts == 1 else f"{restarts} times"
    return Halting(
        Reason.MODEL_INVALID,
        f"{limit}; in pod {pod.name} the server was restarted {times}, the last time: {ended(serving)}",
    )


def loading_since(pod: PodSeen) -> float | None:
    """Return since when the server of a pod loads its models, unix seconds; None when it does not."""
    serving = container_of(pod, SERVING)
    if serving is None or serving.started or pod.is_deleting or pod.phase not in ("Pending", "Running"):
        return None
    if serving.restarts == 0:
        is_running = serving.since and not serving.waiting and not serving.terminated
        return serving.since if is_running else None
    # its wrapper ends with 143 when the start-up probe has run out of time
    if serving.restarts < _RESTARTS and serving.exit_code != TERMINATED:
        return None
    fetch = container_of(pod, FETCH)  # it ended when the server began for the first time
    return fetch.since if fetch is not None and fetch.terminated else pod.created


_RULES: tuple[Callable[[Turn], Halting | None], ...] = (
    _enqueuer_failed,
    _refused_in_a_pod,
    _workers_failed,
    _publisher_failed,
    _models_never_loaded,
    _overdue,
)
