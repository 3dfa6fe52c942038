"""Raw objects of the API server to what a turn sees of them; pure, so that nothing raw is kept in memory."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from batchyard.api.errors import Problem
from batchyard.api.problems import check
from batchyard.api.spec import BatchJob
from batchyard.api.strict import Flaw, format_path

from batchyard_operator.model import FINALIZER, ChildSeen, ContainerSeen, JobSeen, Key, PodSeen

Raw = Mapping[str, Any]

COMPONENT = "app.kubernetes.io/component"


def seconds(text: str | None) -> float:
    """Return a time as Kubernetes writes it in unix seconds; 0 when there is none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def parsed(raw: Raw) -> tuple[BatchJob | None, tuple[str, ...]]:
    """Return the manifest in an object, or None and a sentence for each thing wrong with it.

    Of the metadata only the name counts: what is rendered must not change when somebody adds a label.
    """
    metadata = {"name": raw["metadata"]["name"], "namespace": raw["metadata"]["namespace"]}
    data = {"apiVersion": raw["apiVersion"], "kind": raw["kind"], "metadata": metadata, "spec": raw.get("spec")}
    try:
        job, flaws = check(BatchJob, data)
    except RecursionError:
        return None, ("spec: found values nested too deeply, expected a manifest that can be read",)
    return job, tuple(_sentence(flaw) for flaw in flaws)


def _sentence(flaw: Flaw) -> str:
    return Problem(format_path(flaw.path), flaw.found, flaw.expected, None, flaw.nearest).sentence()


def job_seen(raw: Raw, job: BatchJob | None, problems: tuple[str, ...]) -> JobSeen:
    """Return what a turn sees of a BatchJob whose manifest is parsed already."""
    metadata = raw["metadata"]
    return JobSeen(
        key=Key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        created=seconds(metadata.get("creationTimestamp")),
        is_deleting="deletionTimestamp" in metadata,
        has_finalizer=FINALIZER in (metadata.get("finalizers") or ()),
        job=job,
        problems=problems,
        status=raw.get("status") or {},
    )


def child_seen(raw: Raw) -> ChildSeen:
    """Return what a turn sees of a Job, without Events."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    true = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    failed = true.get("Failed") or true.get("FailureTarget")
    return ChildSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        created=seconds(metadata.get("creationTimestamp")),
        parallelism=spec.get("parallelism", 1),
        suspended=bool(spec.get("suspend")),
        active=status.get("active", 0),
        ready=status.get("ready", 0),
        complete="Complete" in true,
        failed=failed is not None,
        failed_reason=(failed or {}).get("reason", ""),
        failed_message=(failed or {}).get("message", ""),
        is_deleting="deletionTimestamp" in metadata,
        failed_indexes=status.get("failedIndexes", ""),
    )


def pod_seen(raw: Raw) -> PodSeen:
    """Return what a turn sees of a pod."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    is_unscheduled = scheduled.get("status") == "False"
    return PodSeen(
        name=metadata["name"],
        component=(metadata.get("labels") or {}).get(COMPONENT, ""),
        phase=status.get("phase", "Pending"),
        created=seconds(metadata.get("creationTimestamp")),
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        is_deleting="deletionTimestamp" in metadata,
        unscheduled=scheduled.get("message", "") if is_unscheduled else "",
        unscheduled_reason=scheduled.get("reason", "") if is_unscheduled else "",
        is_disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        containers=tuple(_containers(status)),
    )


def _containers(status: Raw) -> Iterator[ContainerSeen]:
    for raw in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = raw.get("state") or {}
        waiting, running, ended = (state.get(name) for name in ("waiting", "running", "terminated"))
        last = ended or (raw.get("lastState") or {}).get("terminated") or {}
        now = ended or waiting or {}
        yield ContainerSeen(
            name=raw["name"],
            ready=bool(raw.get("ready")),
            started=bool(raw.get("started")),
            restarts=raw.get("restartCount", 0),
            waiting=(waiting or {}).get("reason", ""),
            terminated=(ended or {}).get("reason", ""),
            message=now.get("message", ""),
            exit_code=last.get("exitCode"),
            last_message=last.get("message", ""),
            since=seconds((ended or {}).get("finishedAt") or (running or {}).get("startedAt")),
        )
