"""Why a job makes no progress: each cause is told with its reason and the pod, and nothing flaps."""

from typing import Any

import pytest
from batchyard.api.status import StallReason
from batchyard_operator.decide import Limits, decide
from batchyard_operator.model import Observation
from operator_builders import (
    NOW,
    away,
    begun,
    child,
    enqueuer,
    failed,
    fetched,
    handler,
    job_seen,
    pod,
    queue,
    ready,
    samples,
    seen,
    serving,
    state,
    time,
    waits,
)

LIMITS = Limits()
OPEN = queue(state(published=3, sealed=False))
POD = "digits-workers-0-abc"
SCHEDULER = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def condition(observation: Observation, kind: str = "Stalled") -> dict[str, Any]:
    status = decide(observation, LIMITS).status
    assert status is not None
    return next(c for c in status["conditions"] if c["type"] == kind)


def pending(*containers: Any, name: str = POD, **other: Any) -> Any:
    return pod(name, *(containers or (waits("fetch"), waits("serving"), waits("handler"))), **other)


def loading(since: float, **other: Any) -> Any:
    return pending(fetched(), serving(ready=False, started=False, since=since, **other), waits("handler"))


def sick(container: str, reason: str, message: str = "") -> Any:
    return pending(waits("fetch" if container != "fetch" else "serving"), waits(container, reason, message))


CAUSES = [
    pytest.param(
        seen(queue=away(60, "connection refused")),
        "QueueUnavailable",
        f"the queue has not answered since {time(NOW - 60)}: connection refused",
        id="the queue",
    ),
    pytest.param(
        seen(apply_error="jobs.batch is forbidden: quota count/jobs.batch=5", workers=None, pods=()),
        "ObjectsRefused",
        "quota count/jobs.batch=5",
        id="a quota of Jobs",
    ),
    pytest.param(
        seen(workers=child(events=("Error creating: pods is forbidden: exceeded quota: small",)), pods=()),
        "PodsRefused",
        "the pods of Job digits-workers are refused: Error creating: pods is forbidden: exceeded quota: small",
        id="a quota of pods, Pod Security, a service account",
    ),
    pytest.param(
        seen(pods=(pending(unscheduled=SCHEDULER, unscheduled_reason="Unschedulable"),)),
        "Unschedulable",
        f"pod {POD} fits on no node: {SCHEDULER}",
        id="no node",
    ),
    pytest.param(
        seen(pods=[pending(name=f"digits-workers-{i}-x", unscheduled="no node") for i in range(3)]),
        "Unschedulable",
        "pod digits-workers-0-x (and 2 more) fits on no node: no node",
        id="no node for several pods",
    ),
    pytest.param(
        seen(pods=(pending(unscheduled="waiting for gates", unscheduled_reason="SchedulingGated"),)),
        "SchedulingGated",
        "scheduling gates: waiting for gates",
        id="gates",
    ),
    *(
        pytest.param(
            seen(pods=(sick("handler", reason, "denied"),)),
            "ImageUnavailable",
            f"pod {POD}: container handler can't pull its image ({reason}): denied",
            id=reason,
        )
        for reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")
    ),
    pytest.param(
        seen(pods=(sick("fetch", "CreateContainerConfigError", 'secret "s3" not found'),)),
        "ContainerConfigInvalid",
        'container fetch can\'t be made (CreateContainerConfigError): secret "s3" not found',
        id="a missing Secret",
    ),
    pytest.param(
        seen(pods=(pending(),), mount_failures=('MountVolume.SetUp failed: secret "tls" not found',)),
        "VolumeUnavailable",
        'secret "tls" not found',
        id="a volume",
    ),
    pytest.param(
        seen(pods=(loading(0, waiting="CrashLoopBackOff", restarts=4, exit_code=139, message="back-off 40s"),)),
        "ServerFailing",
        "container serving ended with exit code 139; restarted 4 times, its models are not loaded",
        id="a server that crashes",
    ),
    pytest.param(
        seen(pods=(loading(NOW - 2, restarts=1, exit_code=1, last_message="x\nOp type not registered 'Foo'\n"),)),
        "ServerFailing",
        "exit code 1: Op type not registered 'Foo'; restarted once",
        id="a server between two crashes",
    ),
    pytest.param(
        seen(pods=(failed(message='{"level":"ERROR","message":"no space left"}'),)),
        "WorkersFailing",
        f"pod {POD}: container handler ended with exit code 1: no space left; it is tried again",
        id="workers that fail",
    ),
    pytest.param(
        seen(pods=(failed(), ready("digits-workers-0-new", created=NOW - 5))),
        None,
        "",
        id="a worker that is up after a failure",
    ),
    pytest.param(
        seen(
            pods=(
                failed(message="boom"),
                pod("z", fetched(), serving(), handler(since=NOW - 3), phase="Running", is_ready=True),
            )
        ),
        "WorkersFailing",
        "boom",
        id="a worker between two crashes",
    ),
    pytest.param(
        seen(pods=(pending(fetched(terminated="", exit_code=None, since=NOW - 65), waits("serving")),)),
        "Fetching",
        f"are being fetched since {time(NOW - 65)}",
        id="a long download",
    ),
    pytest.param(
        seen(pods=(loading(NOW - 40),)),
        "ModelsLoading",
        f"pod {POD}: the models are loading since {time(NOW - 40)}",
        id="models that load",
    ),
    pytest.param(
        seen(pods=(pending(waits("fetch", "ContainerCreating")),)),
        "PodsNotStarting",
        f"pod {POD}: container fetch waits (ContainerCreating) since {time(NOW - 75)}",
        id="a pod that is being made for long",
    ),
    pytest.param(
        seen(workers=child(active=0), pods=()),
        "PodsNotStarting",
        f"Job digits-workers has made no pod since {time(NOW - 80)}",
        id="no pod at all",
    ),
    pytest.param(
        seen(
            queue=OPEN,
            enqueuer=enqueuer(),
            pods=(ready(), pending(name="digits-enqueuer-x", unscheduled="no node")),
        ),
        "Unschedulable",
        "pod digits-enqueuer-x fits on no node",
        id="the enqueuer, while workers wait for batches",
    ),
    pytest.param(
        seen(
            queue=OPEN,
            enqueuer=enqueuer(),
            pods=(
                ready(),
                pod(
                    "digits-enqueuer-x",
                    fetched(terminated="OOMKilled", exit_code=137, since=NOW - 20),
                    phase="Failed",
                ),
            ),
        ),
        "EnqueuerFailing",
        "ended with exit code 137 (OOMKilled)",
        id="an enqueuer that fails",
    ),
    pytest.param(
        seen(
            job_seen(spec={"input": {"items": [1]}}),
            queue=OPEN,
            pods=(pending(unscheduled="no node"), ready("digits-workers-1-b")),
        ),
        "Unschedulable",
        f"pod {POD} fits on no node",
        id="the worker that publishes inline items, while others wait for batches",
    ),
    pytest.param(
        seen(history=samples([0] * 12)),
        "NoBatchRuns",
        "10 batches queued, workers ready: 1, none runs",
        id="all wait for their next attempt",
    ),
]


@pytest.mark.parametrize(("found", "reason", "words"), CAUSES)
def test_a_job_that_makes_no_progress_says_why(found: Observation, reason: str | None, words: str) -> None:
    told = condition(found)
    assert told["status"] == ("True" if reason else "False")
    if reason:
        assert told["reason"] == reason
        assert words in told["message"]


def test_every_reason_is_told_for_some_cause() -> None:
    assert {str(param.values[1]) for param in CAUSES if param.values[1]} == {reason.value for reason in StallReason}


def test_the_status_itself_carries_the_reason_of_a_stall() -> None:
    status = decide(seen(pods=(pending(unscheduled=SCHEDULER),)), LIMITS).status
    assert status is not None
    assert (status["reason"], status["state"]) == ("Unschedulable", "Running")
    assert SCHEDULER in status["message"]


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(seen(queue=queue(state(running=1))), id="a batch may take an hour"),
        pytest.param(
            seen(queue=queue(state(running=1)), history=samples([0] * 12, running=1)), id="an hour, for a minute"
        ),
        pytest.param(
            seen(queue=queue(state(running=2)), pods=(ready(), pending(name="b", unscheduled=SCHEDULER))),
            id="one worker runs, another finds no node",
        ),
        pytest.param(seen(queue=queue(state(5)), history=samples([1, 3])), id="batches are being settled"),
        pytest.param(seen(queue=queue(state(10))), id="on_job_complete may take an hour"),
        pytest.param(seen(history=samples([0, 0])), id="nothing runs yet, but not for long"),
        pytest.param(seen(history=samples([0] * 10 + [0, 0], running=1)), id="a batch ran a moment ago"),
        pytest.param(seen(queue=away(5)), id="the queue is away for a moment"),
        pytest.param(seen(pods=(pending(unscheduled=SCHEDULER, created=NOW - 5),)), id="a pod that is new"),
        pytest.param(seen(pods=(loading(NOW - 20),)), id="models that load for a moment"),
        pytest.param(seen(workers=child(created=NOW - 5, events=("exceeded quota",)), pods=()), id="a new Job"),
        pytest.param(seen(job_seen(spec={"suspend": True}), pods=(failed(),)), id="suspended"),
        pytest.param(
            seen(queue=OPEN, enqueuer=enqueuer(complete=False), pods=(ready("digits-enqueuer-x"), ready())),
            id="the enqueuer is at work",
        ),
        pytest.param(seen(pods=(ready(), failed("digits-workers-1-x", code=143))), id="a pod that was ended"),
    ],
)
def test_a_job_that_goes_on_is_not_stalled(found: Observation) -> None:
    assert condition(found)["status"] == "False"


def stalled(seconds: float) -> dict[str, Any]:
    told = {"type": "Stalled", "status": "True", "reason": "ServerFailing", "message": "it crashes"}
    return begun(state="Running", conditions=[{**told, "lastTransitionTime": time(NOW - seconds)}])


@pytest.mark.parametrize(
    ("ago", "status"), [pytest.param(5, "True", id="just now"), pytest.param(15, "False", id="a while ago")]
)
def test_a_stall_that_was_just_told_stays_told_for_a_moment(ago: float, status: str) -> None:
    told = condition(seen(job_seen(status=stalled(ago)), queue=queue(state(running=1))))
    assert told["status"] == status
    if status == "True":
        assert (told["reason"], told["message"]) == ("ServerFailing", "it crashes")


def test_a_long_message_of_the_scheduler_is_cut() -> None:
    told = condition(seen(pods=(pending(unscheduled="node is full, " * 1000),)))
    assert len(told["message"]) <= 1000
