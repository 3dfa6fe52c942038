"""The specs of the two Jobs: how many pods, and which ends of a pod are tried again, ignored, or end the Job."""

from typing import Any

from batchyard_operator.model import ENQUEUER, FETCH, HANDLER, Wanted
from batchyard_operator.render.containers import enqueuer, fetch, handler, serving
from batchyard_operator.render.pods import PodFacts, pod_template

INVALID = 64
"""The exit code of every main of ours for what the user wrote wrongly."""

RESTARTS = 10
"""Pods that may fail in a row at one index before it is given up, for good.

Kubernetes waits 10 s before the first, twice as long before each next one and 10 min at most: 50 min in all, which
outlasts a store or a queue that is away. Above the ten losses after which a batch is buried with WorkerLost, so that
one batch that kills whole pods (out of memory) costs itself and not its job's only worker.
"""


def workers_spec(pods: PodFacts, wanted: Wanted) -> dict[str, Any]:
    """Return the spec of the workers' Indexed Job.

    Without maxFailedIndexes: a job goes on while one worker is left, and one bad node takes the pods of few indexes
    along. When every index has failed the Job has, with the reason FailedIndexes. Without ttlSecondsAfterFinished:
    the operator reads the pods' messages first.
    """
    init = [fetch(pods)]
    if pods.spec.handler.type == "tensorflow":
        init.append(serving(pods))  # behind fetch: it starts with the models on the disk
    return {
        "completionMode": "Indexed",
        # never 0 completions: that would complete the Job, irrevocably; none may run while they stay as they were
        "completions": wanted.workers or pods.spec.workers,
        "parallelism": wanted.workers,
        "backoffLimitPerIndex": RESTARTS,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _failure_policy(HANDLER, FETCH),
        "suspend": wanted.suspend,
        "template": pod_template(pods, "worker", HANDLER, init=init, container=handler(pods)),
    }


def enqueuer_spec(pods: PodFacts, wanted: Wanted) -> dict[str, Any]:
    """Return the spec of the enqueuer's Job: one pod at a time, which goes on where the last one stopped.

    restartPolicy Never, and not OnFailure, because only so a podFailurePolicy may tell a wrong input from a fault.
    """
    return {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": RESTARTS,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _failure_policy(ENQUEUER),
        "suspend": wanted.suspend,
        "template": pod_template(pods, "enqueuer", ENQUEUER, init=[], container=enqueuer(pods)),
    }


def scaling(job: dict[str, Any]) -> dict[str, Any]:
    """Return the merge patch for a Job that is there already: all of ``job``'s spec that may change while it runs.

    The rest is immutable. A Job rendered with other settings (after the operator's update, say) would be refused as
    a whole, and with it the change of scale that was meant.
    """
    spec = job["spec"]
    return {"spec": {name: spec[name] for name in ("completions", "parallelism", "suspend")}}


def _failure_policy(*containers: str) -> dict[str, Any]:
    """Return the rules, of which the first that matches counts: a disrupted pod is never to blame, whatever its code.

    Every other end of a pod counts against its index.
    """
    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    invalid = [
        {"action": "FailJob", "onExitCodes": {"containerName": name, "operator": "In", "values": [INVALID]}}
        for name in containers
    ]
    return {"rules": [disrupted, *invalid]}
