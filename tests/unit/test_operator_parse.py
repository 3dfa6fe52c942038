"""What a turn sees of raw Jobs and pods, as tables."""

from typing import Any

import pytest
from batchyard_operator.model import ChildSeen, ContainerSeen, PodSeen
from batchyard_operator.observe import parse

CREATED = "2026-01-01T00:00:00Z"
AT = 1_767_225_600.0


def condition(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, **more}


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        pytest.param({}, {}, {}, id="new"),
        pytest.param({"parallelism": 3, "suspend": True}, {}, {"parallelism": 3, "suspended": True}, id="suspended"),
        pytest.param({}, {"active": 2, "ready": 1}, {"active": 2, "ready": 1}, id="pods"),
        pytest.param({}, {"conditions": [condition("Complete")]}, {"complete": True}, id="complete"),
        pytest.param({}, {"conditions": [condition("Complete", "False")]}, {}, id="a condition that is false"),
        pytest.param(
            {},
            {"conditions": [condition("FailureTarget", reason="PodFailurePolicy", message="exit code 64")]},
            {"failed": True, "failed_reason": "PodFailurePolicy", "failed_message": "exit code 64"},
            id="about to fail",
        ),
        pytest.param(
            {},
            {"conditions": [condition("FailureTarget", reason="a"), condition("Failed", reason="b")]},
            {"failed": True, "failed_reason": "b"},
            id="failed",
        ),
    ],
)
def test_a_job_is_seen_as(spec: Any, status: Any, expected: dict[str, Any]):
    metadata = {"name": "digits-workers", "namespace": "default", "uid": "c1", "creationTimestamp": CREATED}
    seen = parse.child_seen({"metadata": metadata, "spec": spec, "status": status})
    plain = {
        "name": "digits-workers",
        "uid": "c1",
        "created": AT,
        "parallelism": 1,
        "suspended": False,
        "active": 0,
        "ready": 0,
        "complete": False,
        "failed": False,
    }
    assert seen == ChildSeen(**{**plain, **expected})


def container(state: Any, **more: Any) -> dict[str, Any]:
    return {"name": "handler", "ready": False, "started": False, "restartCount": 0, "state": state, **more}


def ended(code: int, reason: str, message: str = "", at: str = CREATED) -> dict[str, Any]:
    return {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            container({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}),
            ContainerSeen("handler", waiting="ImagePullBackOff", message="Back-off pulling"),
            id="waiting",
        ),
        pytest.param(
            container({"running": {"startedAt": CREATED}}, ready=True, started=True, restartCount=2),
            ContainerSeen("handler", ready=True, started=True, restarts=2, since=AT),
            id="running",
        ),
        pytest.param(
            container({"terminated": ended(64, "Error", "no class Handler")}),
            ContainerSeen(
                "handler",
                terminated="Error",
                message="no class Handler",
                exit_code=64,
                last_message="no class Handler",
                since=AT,
            ),
            id="ended",
        ),
        pytest.param(
            container(
                {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                lastState={"terminated": ended(1, "Error", "cannot load")},
                restartCount=1,
            ),
            ContainerSeen(
                "handler",
                restarts=1,
                waiting="CrashLoopBackOff",
                message="back-off 10s",
                exit_code=1,
                last_message="cannot load",
            ),
            id="between two crashes",
        ),
    ],
)
def test_a_container_is_seen_as(raw: Any, expected: ContainerSeen):
    metadata = {"name": "p", "creationTimestamp": CREATED}
    seen = parse.pod_seen({"metadata": metadata, "status": {"containerStatuses": [raw]}})
    assert seen.containers == (expected,)


@pytest.mark.parametrize(
    ("metadata", "status", "expected"),
    [
        pytest.param({}, {"phase": "Running", "conditions": [condition("Ready")]}, {"is_ready": True}, id="ready"),
        pytest.param(
            {},
            {
                "phase": "Pending",
                "conditions": [condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes")],
            },
            {"phase": "Pending", "unscheduled": "0/3 nodes", "unscheduled_reason": "Unschedulable"},
            id="unschedulable",
        ),
        pytest.param({"deletionTimestamp": CREATED}, {}, {"phase": "Pending", "is_deleting": True}, id="leaving"),
        pytest.param(
            {},
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "disk pressure",
                "conditions": [condition("DisruptionTarget")],
            },
            {"phase": "Failed", "reason": "Evicted", "message": "disk pressure", "is_disrupted": True},
            id="evicted",
        ),
    ],
)
def test_a_pod_is_seen_as(metadata: Any, status: Any, expected: dict[str, Any]):
    labels = {"app.kubernetes.io/component": "worker"}
    raw = {"metadata": {"name": "p", "creationTimestamp": CREATED, "labels": labels, **metadata}, "status": status}
    plain = {"component": "worker", "phase": "Running", "created": AT, "is_ready": False, "is_deleting": False}
    assert parse.pod_seen(raw) == PodSeen("p", **{**plain, **expected})
