"""Observations of jobs, pods and queues in a few words, for the tests of the operator's pure rooms."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from batchyard.api.spec import BatchJob
from batchyard.queue.port import Completion, Counts, FailedBatch, Failure, Halt, State
from batchyard_operator.model import ChildSeen, ContainerSeen, JobSeen, Key, Observation, PodSeen, QueueSeen, Sample

NOW = 1_750_000_000.0
HANDLER = {"type": "tensorflow", "models": {"path": "s3://bucket/models/digits"}}
PYTHON = {"type": "python", "path": "h.py", "project": {"inline": {"h.py": "class Handler: ..."}}}
FILES = {"delimitedFiles": {"paths": ["s3://bucket/in"]}}


def batch_job(**spec: Any) -> BatchJob:
    given = {"handler": HANDLER, "input": FILES, "workers": 2, **spec}
    data = {"apiVersion": "batchyard.dev/v1alpha1", "kind": "BatchJob", "metadata": {"name": "digits"}, "spec": given}
    return BatchJob.model_validate(data)


def job_seen(
    job: BatchJob | None = None,
    *,
    status: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    **other: Any,
) -> JobSeen:
    given: dict[str, Any] = {
        "key": Key("default", "digits"),
        "uid": "0b6f2f5e",
        "generation": 1,
        "created": NOW - 100,
        "is_deleting": False,
        "has_finalizer": True,
        "job": job or batch_job(**(spec or {})),
        "problems": (),
        "status": status if status is not None else begun(),
    }
    return JobSeen(**{**given, **other})


def begun(**other: Any) -> dict[str, Any]:
    """A status of a job whose queue was made 90 seconds ago."""
    resting = {"type": "Suspended", "status": "False", "reason": "Pending", "lastTransitionTime": time(NOW - 90)}
    return {"state": "Pending", "startTime": time(NOW - 90), "conditions": [resting], **other}


def time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def state(
    succeeded: int = 0,
    failed: int = 0,
    running: int = 0,
    published: int = 10,
    *,
    sealed: bool = True,
    completion: Completion | None = None,
    halt: Halt | None = None,
    failure: Failure | None = None,
) -> State:
    stands = completion or (Completion.WAITING if sealed else Completion.ABSENT)
    items = published if stands is not Completion.ABSENT else None
    return State(Counts(published, succeeded, failed, running), stands, failure, halt, items)


def queue(seen: State | None = None, *, recent: tuple[FailedBatch, ...] = ()) -> QueueSeen:
    return QueueSeen("here", seen or state(), recent)


UNMADE = QueueSeen("unmade")
LOST = QueueSeen("lost")


def away(seconds: float = 60.0, why: str = "connection refused") -> QueueSeen:
    return QueueSeen("away", why=why, since=NOW - seconds)


def child(name: str = "digits-workers", **other: Any) -> ChildSeen:
    given: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "created": NOW - 80,
        "parallelism": 2,
        "suspended": False,
        "active": 2,
        "ready": 0,
        "complete": False,
        "failed": False,
    }
    return ChildSeen(**{**given, **other})


def enqueuer(**other: Any) -> ChildSeen:
    return child("digits-enqueuer", **{"parallelism": 1, "active": 1, **other})


def fetched(**other: Any) -> ContainerSeen:
    return ContainerSeen("fetch", **{"terminated": "Completed", "exit_code": 0, "since": NOW - 70, **other})


def serving(**other: Any) -> ContainerSeen:
    return ContainerSeen("serving", **{"ready": True, "started": True, "since": NOW - 69, **other})


def handler(**other: Any) -> ContainerSeen:
    return ContainerSeen("handler", **{"ready": True, "started": True, "since": NOW - 60, **other})


def waits(name: str, reason: str = "PodInitializing", message: str = "") -> ContainerSeen:
    return ContainerSeen(name, waiting=reason, message=message)


def pod(name: str = "digits-workers-0-abc", *containers: ContainerSeen, **other: Any) -> PodSeen:
    """A worker's pod, Pending unless said otherwise."""
    given: dict[str, Any] = {
        "component": "enqueuer" if "enqueuer" in name else "worker",
        "phase": "Pending",
        "created": NOW - 75,
        "is_ready": False,
        "is_deleting": False,
    }
    return PodSeen(name=name, containers=containers, **{**given, **other})


def ready(name: str = "digits-workers-0-abc", **other: Any) -> PodSeen:
    return pod(name, fetched(), serving(), handler(), **{"phase": "Running", "is_ready": True, **other})


def failed(name: str = "digits-workers-0-abc", *, message: str = "", code: int = 1, at: float = NOW - 30) -> PodSeen:
    """A worker's pod whose handler ended."""
    gone = handler(ready=False, terminated="Error", exit_code=code, last_message=message, since=at)
    return pod(name, fetched(), serving(terminated="Error", exit_code=143, since=at + 1), gone, phase="Failed")


def samples(settled: list[int], *, step: float = 5.0, running: int = 0) -> tuple[Sample, ...]:
    """Samples ``step`` seconds apart, the last one ``step`` seconds ago."""
    first = NOW - step * len(settled)
    return tuple(Sample(first + step * i, count, running) for i, count in enumerate(settled))


def seen(job: JobSeen | None = None, **other: Any) -> Observation:
    """A job whose workers run; what differs is given."""
    given: dict[str, Any] = {"queue": queue(), "workers": child(), "pods": (ready(),)}
    return Observation(now=NOW, job=job or job_seen(), **{**given, **other})


def failed_batch(index: int, error: str = "ValueError: no digit") -> FailedBatch:
    return FailedBatch(index, b"", 3, Failure("HandlerError", error, time=NOW - 10))
