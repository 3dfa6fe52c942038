"""What a turn decides over the life of a job: which rule speaks, and what it does."""

from typing import Any

import pytest
from batchyard.api.status import Reason, State, Status
from batchyard.queue.port import Completion, Failure, Halt
from batchyard_operator.decide import Limits, decide
from batchyard_operator.model import Decision, Halting, Observation, Wanted
from operator_builders import (
    LOST,
    NOW,
    PYTHON,
    UNMADE,
    away,
    batch_job,
    begun,
    child,
    enqueuer,
    failed,
    failed_batch,
    fetched,
    job_seen,
    pod,
    queue,
    ready,
    samples,
    seen,
    state,
    time,
)

LIMITS = Limits(startup=1800)
INLINE = {"items": [1, 2, 3]}


def decided(observation: Observation) -> Decision:
    return decide(observation, LIMITS)


def status_of(decision: Decision) -> dict[str, Any]:
    assert decision.status is not None
    Status.model_validate(decision.status)
    return dict(decision.status)


def ended_status(**other: Any) -> dict[str, Any]:
    given = {"state": "Succeeded", "reason": "AllBatchesSucceeded", "message": "10 batches succeeded"}
    counts = {"total": 10, "succeeded": 10, "failed": 0, "running": 0, "pending": 0}
    return begun(**{**given, "completionTime": time(NOW - 30), "batches": counts, "progress": "10/10", **other})


# --- the beginning ---
def test_a_new_job_gets_its_finalizer_and_its_first_status_and_nothing_else() -> None:
    decision = decided(seen(job_seen(has_finalizer=False, status={}), queue=UNMADE, workers=None, pods=()))
    assert decision.add_finalizer
    assert (decision.make_queue, decision.wanted, decision.halt) == (False, None, None)
    assert status_of(decision)["state"] == "Pending"
    assert "startTime" not in status_of(decision)
    assert decision.urgent


def test_a_held_job_gets_its_queue_before_any_child() -> None:
    decision = decided(seen(job_seen(status={"state": "Pending"}), queue=UNMADE, workers=None, pods=()))
    assert decision.make_queue
    assert decision.wanted is None
    assert status_of(decision)["startTime"] == time(NOW)


def test_a_queue_that_does_not_answer_is_not_made_and_the_job_says_so() -> None:
    decision = decided(seen(job_seen(status={"state": "Pending"}), queue=away(), workers=None, pods=()))
    assert not decision.make_queue
    status = status_of(decision)
    assert (status["state"], status["reason"]) == ("Pending", "QueueUnavailable")
    assert "startTime" not in status


@pytest.mark.parametrize(
    ("given", "sealed", "wanted"),
    [
        pytest.param({}, False, Wanted(2, suspend=False, enqueuer=True), id="files: workers and an enqueuer at once"),
        pytest.param({}, True, Wanted(2, suspend=False, enqueuer=False), id="sealed: no enqueuer any more"),
        pytest.param({"input": INLINE}, False, Wanted(2, suspend=False, enqueuer=False), id="inline: never one"),
        pytest.param({"suspend": True}, False, Wanted(2, suspend=True, enqueuer=True), id="suspended: both, stopped"),
        pytest.param({"workers": 7}, True, Wanted(7, suspend=False, enqueuer=False), id="scaled"),
    ],
)
def test_the_children_follow_the_spec(given: dict[str, Any], sealed: bool, wanted: Wanted) -> None:
    found = decided(seen(job_seen(spec=given), queue=queue(state(sealed=sealed)), workers=None, pods=()))
    assert found.wanted == wanted


def test_no_child_is_made_while_one_of_its_name_is_being_deleted() -> None:
    assert decided(seen(workers=child(is_deleting=True))).wanted is None


def test_without_a_look_at_the_queue_the_children_keep_to_the_spec_and_no_enqueuer_is_made() -> None:
    assert decided(seen(queue=away(), workers=child())).wanted == Wanted(2, suspend=False, enqueuer=False)
    assert decided(seen(queue=away(), enqueuer=enqueuer())).wanted == Wanted(2, suspend=False, enqueuer=True)


# --- what only the cluster refuses ---
@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job_seen(problems=("spec.workers: found 0, expected 1.",), status={}), id="the observer's"),
        pytest.param(
            job_seen(spec={"handler": {**PYTHON, "project": None}}, status={}), id="a handler on its writer's machine"
        ),
    ],
)
def test_a_manifest_that_cannot_run_here_fails_and_leaves_nothing_behind(job: Any) -> None:
    decision = decided(seen(job, queue=UNMADE, workers=None, pods=()))
    status = status_of(decision)
    assert (status["state"], status["reason"]) == ("Failed", "ManifestInvalid")
    assert "found" in status["message"]
    assert status["completionTime"] == time(NOW)
    assert decision == Decision(status=status, events=decision.events, again=decision.again, urgent=True)
    assert decision.urgent


def test_a_manifest_that_is_refused_by_a_newer_operator_stops_its_workers() -> None:
    invalid = job_seen(problems=("spec.input: found nothing, expected it.",), status=begun())
    decision = decided(seen(invalid))
    assert decision.halt == Halting("ManifestInvalid", "spec.input: found nothing, expected it.")
    assert status_of(decision)["state"] == "Failed"


# --- the states between ---
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(seen(queue=queue(state(published=0, sealed=False)), pods=()), "Pending", id="nothing runs"),
        pytest.param(seen(queue=queue(state(published=0, sealed=False))), "Enqueuing", id="a pod runs"),
        pytest.param(seen(queue=queue(state(3, published=9, sealed=False))), "Enqueuing", id="not sealed"),
        pytest.param(seen(queue=queue(state(3, running=2))), "Running", id="sealed"),
        pytest.param(seen(queue=queue(state(8, 2))), "Completing", id="all settled, the token is not"),
        pytest.param(seen(job_seen(spec={"suspend": True})), "Suspended", id="suspended"),
        pytest.param(seen(job_seen(status=begun(state="Running")), queue=away()), "Running", id="away: as it was"),
        pytest.param(seen(job_seen(status=begun(state="Suspended")), queue=away()), "Pending", id="resumed, away"),
    ],
)
def test_the_queue_drives_the_state(found: Observation, expected: str) -> None:
    assert status_of(decided(found))["state"] == expected


# --- the end, from the queue ---
@pytest.mark.parametrize(
    ("end", "expected", "message"),
    [
        pytest.param(
            state(10, completion=Completion.SUCCEEDED),
            (State.SUCCEEDED, Reason.ALL_BATCHES_SUCCEEDED),
            "10 batches succeeded",
            id="all succeeded",
        ),
        pytest.param(
            state(9, 1, completion=Completion.SUCCEEDED),
            (State.COMPLETED_WITH_FAILURES, Reason.SOME_BATCHES_FAILED),
            "1 of 10 batches failed for good",
            id="one failed",
        ),
        pytest.param(
            state(10, completion=Completion.FAILED, failure=Failure("HandlerError", "no mail")),
            (State.FAILED, Reason.ON_JOB_COMPLETE_FAILED),
            "every batch is settled, but on_job_complete failed for good: no mail",
            id="on_job_complete failed",
        ),
        pytest.param(
            state(2, halt=Halt("HandlerInvalid", "no class Handler")),
            (State.FAILED, Reason.HANDLER_INVALID),
            "no class Handler",
            id="halted by a worker",
        ),
        pytest.param(
            state(2, halt=Halt("Cancelled", "by you")), (State.CANCELLED, Reason.CANCELLED), "by you", id="cancelled"
        ),
    ],
)
def test_the_queue_ends_the_job(end: Any, expected: tuple[str, str], message: str) -> None:
    decision = decided(seen(queue=queue(end)))
    status = status_of(decision)
    assert ((status["state"], status["reason"]), status["message"]) == (expected, message)
    assert status["completionTime"] == time(NOW)
    assert decision.urgent
    assert (decision.wanted, decision.halt) == (None, None)


def test_a_job_whose_queue_is_gone_has_failed() -> None:
    status = status_of(decided(seen(queue=LOST)))
    assert (status["state"], status["reason"]) == ("Failed", "QueueLost")


# --- after the end ---
@pytest.mark.parametrize(
    "later",
    [
        pytest.param({"queue": LOST}, id="the queue is lost"),
        pytest.param({"queue": away()}, id="the queue is away"),
        pytest.param({"queue": queue(state(10, halt=Halt("Cancelled", "late")))}, id="a halt that came too late"),
        pytest.param({"workers": child(failed=True)}, id="the workers' Job failed"),
        pytest.param({"workers": None, "pods": ()}, id="the children are gone"),
    ],
)
def test_what_a_job_ended_as_stays(later: dict[str, Any]) -> None:
    before = ended_status()
    decision = decided(seen(job_seen(status=before, generation=3, spec={"suspend": True, "timeout": "1s"}), **later))
    after = status_of(decision)
    for name in ("state", "reason", "message", "startTime", "completionTime", "progress", "batches"):
        assert after[name] == before[name]
    assert after["observedGeneration"] == 3
    assert (decision.halt, decision.events, decision.make_queue) == (None, (), False)


def test_what_workers_settle_while_they_leave_is_still_counted() -> None:
    before = ended_status(state="Failed", reason="ErrorThresholdExceeded", batches={"succeeded": 1, "failed": 4})
    leaving = state(3, 4, 0, halt=Halt("ErrorThresholdExceeded", "4 of 10"))
    after = status_of(decided(seen(job_seen(status=before), queue=queue(leaving))))
    assert (after["state"], after["reason"]) == ("Failed", "ErrorThresholdExceeded")
    assert after["progress"] == "7/10"


def test_without_workers_nothing_is_in_anybodys_hands() -> None:
    before = ended_status(state="Failed", reason="QueueLost", batches={"succeeded": 1, "failed": 0, "running": 3})
    for found in (queue(state(1, running=3, halt=Halt("HandlerInvalid", "x"))), LOST):
        batches = status_of(decided(seen(job_seen(status=before), queue=found, pods=(failed(),))))["batches"]
        assert (batches["running"], batches["pending"]) == (0, 9 if found is not LOST else 3)


def test_a_manifest_stays_refused() -> None:
    before = {"state": "Failed", "reason": "ManifestInvalid", "completionTime": time(NOW - 5)}
    decision = decided(seen(job_seen(has_finalizer=False, status=before), queue=UNMADE, workers=None, pods=()))
    assert decision == Decision(status=status_of(decision)), "nothing is due: events alone wake it"


@pytest.mark.parametrize(
    ("ago", "workers", "wanted"),
    [
        pytest.param(59, child(), None, id="they may leave by themselves"),
        pytest.param(61, child(), Wanted(2, suspend=True, enqueuer=False), id="they are stopped"),
        pytest.param(61, child(suspended=True), None, id="they are stopped already"),
        pytest.param(61, child(complete=True), None, id="the Job is over"),
    ],
)
def test_workers_that_do_not_leave_an_ended_job_are_stopped(ago: float, workers: Any, wanted: Wanted | None) -> None:
    status = ended_status(completionTime=time(NOW - ago))
    decision = decided(seen(job_seen(status=status), workers=workers))
    assert decision.wanted == wanted
    assert not decision.remove_children, "what they say in their logs is kept"
    assert decision.again is not None


def test_an_enqueuer_that_does_not_leave_is_stopped_too() -> None:
    status = ended_status(completionTime=time(NOW - 61))
    running = pod("digits-enqueuer-xyz", fetched(), phase="Running")
    decision = decided(seen(job_seen(status=status), workers=None, enqueuer=enqueuer(), pods=(running,)))
    assert decision.wanted == Wanted(2, suspend=True, enqueuer=True)


@pytest.mark.parametrize(
    ("ttl", "is_deleted", "again"),
    [
        pytest.param(29, True, 5.0, id="its time is over"),
        pytest.param(90, False, 60.0, id="later"),
        pytest.param(None, False, None, id="never"),
    ],
)
def test_an_ended_job_is_deleted_in_its_time(ttl: int | None, is_deleted: bool, again: float | None) -> None:
    job = job_seen(batch_job(ttlSecondsAfterFinished=ttl), status=ended_status())
    decision = decided(seen(job, pods=()))
    assert (decision.delete_job, decision.again) == (is_deleted, again)


# --- deletion ---
@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param({"workers": child(), "pods": (ready(),)}, (True, False, False), id="children first"),
        pytest.param({"workers": child(is_deleting=True), "pods": ()}, (True, False, False), id="a Job is left"),
        pytest.param({"workers": None, "pods": (ready(),)}, (True, False, False), id="a pod is left"),
        pytest.param({"workers": None, "enqueuer": enqueuer(), "pods": ()}, (True, False, False), id="an enqueuer"),
        pytest.param({"workers": None, "pods": ()}, (False, True, True), id="then queue and finalizer"),
        pytest.param({"workers": None, "pods": (), "queue": LOST}, (False, True, True), id="a queue that is gone"),
        pytest.param({"workers": None, "pods": (), "queue": UNMADE}, (False, True, True), id="a queue never told of"),
    ],
)
@pytest.mark.parametrize("status", [begun(), ended_status(), {}], ids=["running", "ended", "new"])
def test_a_deleted_job_gives_back_what_it_holds_in_order(
    left: dict[str, Any], expected: tuple[bool, bool, bool], status: dict[str, Any]
) -> None:
    decision = decided(seen(job_seen(is_deleting=True, status=status), **left))
    assert (decision.remove_children, decision.drop_queue, decision.drop_finalizer) == expected
    assert (decision.wanted, decision.status, decision.make_queue, decision.add_finalizer) == (
        None,
        None,
        False,
        False,
    )


def test_a_deleted_job_without_finalizer_holds_nothing() -> None:
    job = job_seen(is_deleting=True, has_finalizer=False, status={})
    assert decided(seen(job, queue=UNMADE, workers=None, pods=())) == Decision()


# --- when to look again ---
@pytest.mark.parametrize(
    ("found", "again"),
    [
        pytest.param(seen(queue=queue(state(5)), history=samples([1, 3])), 1.0, id="batches move"),
        pytest.param(
            seen(
                job_seen(status=begun(batches={"total": 10, "succeeded": 5, "running": 1, "pending": 4})),
                queue=queue(state(5, running=1)),
                history=samples([5, 5, 5], running=1),
            ),
            5.0,
            id="a long batch",
        ),
        pytest.param(seen(job_seen(spec={"suspend": True}), pods=()), 60.0, id="suspended"),
    ],
)
def test_a_job_is_looked_at_as_often_as_something_moves(found: Observation, again: float) -> None:
    assert decided(found).again == again


def test_the_newest_failures_are_told_in_bounded_size() -> None:
    recent = tuple(failed_batch(index, "x" * 5000) for index in range(30))
    failures = status_of(decided(seen(queue=queue(state(0, 30, published=40), recent=recent))))["failures"]
    assert [failure["batch"] for failure in failures] == list(range(10))
    assert all(len(failure["error"]) <= 300 for failure in failures)
