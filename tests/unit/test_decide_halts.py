"""What stops a job before its end: each rule halts the queue, and the queue's word is what ends the job."""

from typing import Any

import pytest
from batchyard.api.status import State
from batchyard_operator.decide import Limits, decide
from batchyard_operator.model import Decision, Halting, Observation
from operator_builders import (
    NOW,
    PYTHON,
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
    seen,
    serving,
    state,
    time,
    waits,
)

LIMITS = Limits(startup=1800)


def decided(observation: Observation) -> Decision:
    return decide(observation, LIMITS)


def state_of(decision: Decision) -> str:
    assert decision.status is not None
    return str(decision.status["state"])


def started(seconds: float, **other: Any) -> dict[str, Any]:
    return begun(startTime=time(NOW - seconds), **other)


def suspended_until(seconds: float, status: str = "False") -> dict[str, Any]:
    resumed = {"type": "Suspended", "status": status, "reason": "Running", "lastTransitionTime": time(NOW - seconds)}
    return started(500, conditions=[resumed])


@pytest.mark.parametrize(
    ("status", "given", "is_halted"),
    [
        pytest.param(started(61), {"timeout": "60s"}, True, id="over"),
        pytest.param(started(59), {"timeout": "60s"}, False, id="under"),
        pytest.param(started(9000), {}, False, id="no timeout"),
        pytest.param(started(61), {"timeout": "60s", "suspend": True}, False, id="suspended: its time stands still"),
        pytest.param(suspended_until(30), {"timeout": "60s"}, False, id="resumed: it counts anew"),
        pytest.param(suspended_until(90), {"timeout": "60s"}, True, id="resumed long ago"),
        pytest.param(suspended_until(90, "True"), {"timeout": "60s"}, False, id="resumed by this very turn"),
    ],
)
def test_a_job_that_runs_longer_than_its_timeout_is_halted(
    status: dict[str, Any], given: dict[str, Any], is_halted: bool
) -> None:
    decision = decided(seen(job_seen(status=status, spec=given)))
    halt = Halting("DeadlineExceeded", "the job ran longer than spec.timeout, 60s")
    assert decision.halt == (halt if is_halted else None)
    assert state_of(decision) == ("Suspended" if given.get("suspend") else "Running")


def test_a_timeout_is_looked_for_when_it_is_due() -> None:
    decision = decided(seen(job_seen(status=started(57), spec={"timeout": "60s"})))
    assert decision.again is not None
    assert decision.again <= 3


def refused(container: str, message: str = "handler.py: no class Handler") -> Any:
    gone = handler if container == "handler" else fetched
    ended = gone(ready=False, terminated="Error", exit_code=64, last_message=message, since=NOW - 5)
    others = () if container == "fetch" else (fetched(), serving())
    return pod("digits-workers-0-abc", *others, ended, phase="Failed")


FAILED_JOB = child(failed=True, failed_reason="PodFailurePolicy", failed_message="exit code 64 at index 0")
EXHAUSTED = child(failed=True, failed_reason="FailedIndexes", failed_message="2 indexes")
ENQUEUER_POD = "digits-enqueuer-xyz"


def enqueuer_pod(code: int, message: str) -> Any:
    gone = fetched(terminated="Error", exit_code=code, last_message=message, since=NOW - 5)
    return pod(ENQUEUER_POD, gone, phase="Failed")


INLINE = {"input": {"items": [1, 2, 3]}}
OTHER = ready("digits-workers-1-b")
OPEN = queue(state(published=3, sealed=False))


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        pytest.param(
            seen(workers=FAILED_JOB, pods=(refused("handler"),)),
            "HandlerInvalid",
            "pod digits-workers-0-abc: container handler ended with exit code 64: handler.py: no class Handler",
            id="a handler that is refused",
        ),
        pytest.param(
            seen(pods=(refused("fetch", "s3://b/m: no model\nfound: nothing"),)),
            "ModelInvalid",
            "s3://b/m: no model found: nothing",
            id="a model that is refused",
        ),
        pytest.param(
            seen(job_seen(spec={"handler": PYTHON}), pods=(refused("fetch", "no project"),)),
            "HandlerInvalid",
            "no project",
            id="a project that is refused, without models",
        ),
        pytest.param(
            seen(workers=EXHAUSTED, pods=(failed(message="out of disk"), failed("digits-workers-1-b", at=NOW - 90))),
            "WorkersFailed",
            "the last time: pod digits-workers-0-abc: container handler ended with exit code 1: out of disk",
            id="workers that fail again and again",
        ),
        pytest.param(
            seen(workers=EXHAUSTED, pods=()),
            "WorkersFailed",
            "workers failed again and again (FailedIndexes: 2 indexes)",
            id="no pod is left to tell",
        ),
        pytest.param(
            seen(workers=child(complete=True)), "WorkersFailed", "batches are left", id="workers that left too early"
        ),
        pytest.param(
            seen(queue=OPEN, enqueuer=enqueuer(failed=True), pods=(enqueuer_pod(64, "a.csv: no header"),)),
            "InputInvalid",
            "a.csv: no header",
            id="an input that is refused",
        ),
        pytest.param(
            seen(queue=OPEN, enqueuer=enqueuer(failed=True), pods=(enqueuer_pod(1, "bucket is away"),)),
            "EnqueuerFailed",
            "the enqueuer failed again and again, the last time: pod digits-enqueuer-xyz",
            id="an enqueuer that fails again and again",
        ),
        pytest.param(
            seen(job_seen(spec=INLINE), queue=OPEN, workers=child(failed_indexes="0,2-3"), pods=(failed(), OTHER)),
            "EnqueuerFailed",
            "worker 0, which queues the items of the manifest, failed again and again, the last time: pod digits-w",
            id="the worker that publishes inline items is given up",
        ),
        pytest.param(
            seen(queue=OPEN, enqueuer=enqueuer(complete=True)),
            "EnqueuerFailed",
            "not every batch is queued",
            id="an enqueuer that left too early",
        ),
    ],
)
def test_children_that_gave_up_halt_the_job(found: Observation, reason: str, words: str) -> None:
    decision = decided(found)
    assert decision.halt is not None
    assert decision.halt.reason == reason
    assert words in decision.halt.message
    assert decision.wanted is None
    assert not State(state_of(decision)).is_ended, "the queue's word ends a job"


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(seen(enqueuer=enqueuer(failed=True)), id="an enqueuer that failed after the seal"),
        pytest.param(seen(enqueuer=enqueuer(complete=True)), id="an enqueuer that is done"),
        pytest.param(seen(workers=child(failed=True, is_deleting=True)), id="a Job that is being replaced"),
        pytest.param(
            seen(job_seen(spec=INLINE), queue=OPEN, workers=child(failed_indexes="1,10"), pods=(ready(),)),
            id="another worker is given up",
        ),
        pytest.param(seen(workers=child(failed_indexes="0"), pods=(OTHER,)), id="the first worker, after the seal"),
        pytest.param(seen(queue=away(), workers=child(failed=True)), id="nobody knows what the queue says"),
        pytest.param(seen(pods=(failed(), ready("digits-workers-1-b"))), id="a pod that is tried again"),
    ],
)
def test_a_job_that_may_go_on_is_not_halted(found: Observation) -> None:
    assert decided(found).halt is None


def loading(since: float = NOW - 1900, fetched_at: float = NOW - 1905, **other: Any) -> Any:
    server = serving(ready=False, started=False, since=since, **other)
    return pod("digits-workers-0-abc", fetched(since=fetched_at), server, waits("handler"), created=NOW - 2000)


CRASHED = {"waiting": "CrashLoopBackOff", "restarts": 7, "exit_code": 1, "last_message": "Op not registered: X"}
PROBED = {"restarts": 1, "exit_code": 143}


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        pytest.param((loading(),), "the models did not load within 1,800 s in pod digits-workers-0-abc", id="slow"),
        pytest.param(
            (loading(0, **CRASHED),),
            "restarted 7 times, the last time: container serving ended with exit code 1: Op not registered: X",
            id="a server that crashes",
        ),
        pytest.param((loading(NOW - 3, **PROBED),), "restarted once", id="given up by its probe"),
        pytest.param((loading(NOW - 1700),), None, id="still in time"),
        pytest.param(
            (loading(0, NOW - 200, **{**CRASHED, "restarts": 5}),),
            "the models never loaded; in pod digits-workers-0-abc the server was restarted 5 times",
            id="six starts in no time",
        ),
        pytest.param((loading(0, NOW - 200, **{**CRASHED, "restarts": 4}),), None, id="five starts may be bad luck"),
        pytest.param((loading(0, waiting="ImagePullBackOff"),), None, id="an image that can't be pulled only stalls"),
        pytest.param((loading(NOW - 3, restarts=1, exit_code=1),), None, id="one crash after a long pull"),
        pytest.param((loading(), ready("digits-workers-1-b")), None, id="another server has loaded them"),
    ],
)
def test_models_that_never_load_fail_the_job(pods: Any, words: str | None) -> None:
    decision = decided(seen(pods=pods))
    assert (decision.halt is None) == (words is None)
    if words is not None and decision.halt is not None:
        assert decision.halt.reason == "ModelInvalid"
        assert words in decision.halt.message


def test_models_that_loaded_once_are_not_to_blame() -> None:
    assert decided(seen(queue=queue(state(4)), pods=(loading(),))).halt is None
