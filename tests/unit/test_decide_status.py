"""What a status shows: counts that never go back, a steady pace, conditions that keep their time; and the Events."""

from typing import Any

import pytest
from batchyard.api.status import Status
from batchyard.queue.port import Completion, Halt
from batchyard_operator.decide import Limits, decide
from batchyard_operator.model import Observation, Told
from operator_builders import (
    NOW,
    PYTHON,
    away,
    begun,
    failed_batch,
    job_seen,
    pod,
    queue,
    ready,
    samples,
    seen,
    state,
    time,
)

LIMITS = Limits()


def status_of(observation: Observation) -> dict[str, Any]:
    status = decide(observation, LIMITS).status
    assert status is not None
    Status.model_validate(status)
    return dict(status)


def counts(**other: int) -> dict[str, int]:
    return {"succeeded": 0, "failed": 0, "running": 0, "pending": 0, **other}


# --- counts ---
@pytest.mark.parametrize(
    ("before", "found", "shown", "progress"),
    [
        pytest.param(
            None, state(5, 1, 2), counts(total=10, succeeded=5, failed=1, running=2, pending=2), "6/10", id="plain"
        ),
        pytest.param(
            None,
            state(5, sealed=False),
            counts(succeeded=5, pending=5),
            "5/?",
            id="nobody knows how many there will be",
        ),
        pytest.param(
            counts(succeeded=6, failed=1),
            state(5, 2),
            counts(total=10, succeeded=6, failed=2, pending=2),
            "8/10",
            id="a success counted as none while a failure is written",
        ),
        pytest.param(
            counts(succeeded=5, failed=3),
            state(5, 2, 3),
            counts(total=10, succeeded=5, failed=3, running=2),
            "8/10",
            id="running batches are never more than what is left",
        ),
        pytest.param(
            counts(succeeded=50),
            state(5, 2),
            counts(total=10, succeeded=5, failed=2, pending=3),
            "7/10",
            id="not of this queue",
        ),
    ],
)
def test_counts_never_go_back_and_add_up(
    before: dict[str, int] | None, found: Any, shown: dict[str, int], progress: str
) -> None:
    status = begun(batches=before) if before else begun()
    after = status_of(seen(job_seen(status=status), queue=queue(found)))
    assert after["batches"] == shown
    assert after["progress"] == progress


def test_without_a_look_at_the_queue_the_counts_and_failures_stay() -> None:
    before = status_of(seen(queue=queue(state(4, 1), recent=(failed_batch(3),))))
    after = status_of(seen(job_seen(status=before), queue=away()))
    for name in ("batches", "progress", "failures"):
        assert after[name] == before[name]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(seen(), {"desired": 2, "ready": 1}, id="one of two is ready"),
        pytest.param(seen(pods=(ready(is_deleting=True),)), {"desired": 2, "ready": 0}, id="one that leaves"),
        pytest.param(seen(pods=(ready("digits-enqueuer-x"),)), {"desired": 2, "ready": 0}, id="an enqueuer is none"),
        pytest.param(seen(job_seen(spec={"suspend": True})), {"desired": 0, "ready": 1}, id="suspended: none should"),
    ],
)
def test_workers_are_counted_by_their_pods(found: Observation, expected: dict[str, int]) -> None:
    assert status_of(found)["workers"] == expected


# --- pace ---
@pytest.mark.parametrize(
    ("found", "history", "rate"),
    [
        pytest.param(state(662, published=9999), samples([i * 62 for i in range(10)]), "13.2/s", id="fast"),
        pytest.param(state(30, published=99), samples([2 * i for i in range(12)]), "30/min", id="slow"),
        pytest.param(state(1, published=9), samples([0] * 12), "1/min", id="the first of long batches"),
        pytest.param(state(3, published=9), (), "2/min", id="right after the operator's start: since the beginning"),
        pytest.param(state(0, published=9), (), None, id="nothing is settled"),
    ],
)
def test_the_rate_is_told_in_the_unit_that_fits(found: Any, history: Any, rate: str | None) -> None:
    observation = seen(queue=queue(found), history=history)
    assert status_of(observation).get("rate") == rate


def test_an_hour_a_batch_has_a_rate_too() -> None:
    resting = {"type": "Suspended", "status": "False", "reason": "Pending", "lastTransitionTime": time(NOW - 7200)}
    status = begun(startTime=time(NOW - 7200), conditions=[resting])
    found = status_of(
        seen(job_seen(status=status), queue=queue(state(2, running=1)), history=samples([2] * 12, running=1))
    )
    assert found["rate"] == "1/h"
    assert found["estimatedCompletionTime"] == time(-(-(NOW + 8 * 3600) // 10) * 10)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(seen(queue=queue(state(5, sealed=False)), history=samples([0, 2])), id="the total is unknown"),
        pytest.param(seen(job_seen(spec={"suspend": True}), queue=queue(state(5))), id="suspended"),
        pytest.param(seen(queue=queue(state(10))), id="all settled"),
        pytest.param(seen(queue=queue(state(10, completion=Completion.SUCCEEDED))), id="ended"),
    ],
)
def test_no_end_is_estimated(found: Observation) -> None:
    assert "estimatedCompletionTime" not in status_of(found)


def moved(observation: Observation, seconds: float, status: dict[str, Any]) -> Observation:
    """The same world ``seconds`` later, with the status that was written."""
    later = seen(job_seen(status=status), queue=observation.queue, pods=observation.pods, history=observation.history)
    return Observation(NOW + seconds, later.job, later.queue, later.workers, None, later.pods, later.history)


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        pytest.param(
            seen(queue=queue(state(90, running=2, published=999)), history=samples([i * 8 for i in range(11)])),
            20,
            id="a pause between two batches",
        ),
        pytest.param(
            seen(queue=queue(state(4, running=2)), history=samples([4] * 12, running=2)), 3, id="long batches"
        ),
    ],
)
def test_nothing_new_writes_nothing(found: Observation, seconds: int) -> None:
    written = status_of(found)
    assert "rate" in written
    for second in range(seconds):
        again = decide(moved(found, second, written), LIMITS)
        assert (again.status, again.events) == (written, ())


# --- conditions ---
def test_a_condition_moves_its_time_only_when_its_answer_flips() -> None:
    first = status_of(seen())
    old = {**first, "conditions": [{**c, "lastTransitionTime": time(NOW - 500)} for c in first["conditions"]]}
    kept = status_of(seen(job_seen(status=old, generation=2), queue=queue(state(3))))["conditions"]
    assert {c["lastTransitionTime"] for c in kept} == {time(NOW - 500)}
    assert {c["observedGeneration"] for c in kept} == {2}
    done = status_of(seen(job_seen(status=old), queue=queue(state(10, completion=Completion.SUCCEEDED))))[
        "conditions"
    ]
    flipped = {c["type"]: c["lastTransitionTime"] for c in done if c["lastTransitionTime"] != time(NOW - 500)}
    assert flipped == {"Complete": time(NOW)}


ANSWERS = ("Enqueued", "Complete", "Failed", "Suspended", "Stalled")


@pytest.mark.parametrize(
    ("found", "true"),
    [
        pytest.param(seen(queue=queue(state(2, running=1, sealed=False))), set(), id="enqueuing"),
        pytest.param(seen(queue=queue(state(2, running=1))), {"Enqueued"}, id="running"),
        pytest.param(seen(job_seen(spec={"suspend": True})), {"Enqueued", "Suspended"}, id="suspended"),
        pytest.param(
            seen(queue=queue(state(10, completion=Completion.SUCCEEDED))), {"Enqueued", "Complete"}, id="done"
        ),
        pytest.param(
            seen(queue=queue(state(9, 1, completion=Completion.SUCCEEDED))),
            {"Enqueued", "Complete"},
            id="some failed",
        ),
        pytest.param(seen(queue=queue(state(halt=Halt("ModelInvalid", "x")))), {"Enqueued", "Failed"}, id="failed"),
        pytest.param(seen(queue=queue(state(halt=Halt("Cancelled", "x")))), {"Enqueued"}, id="cancelled"),
    ],
)
def test_the_conditions_answer_every_question(found: Observation, true: set[str]) -> None:
    conditions = status_of(found)["conditions"]
    assert tuple(c["type"] for c in conditions) == ANSWERS
    assert {c["type"] for c in conditions if c["status"] == "True"} == true
    assert all(c["reason"] for c in conditions)


# --- what another version wrote ---
def test_a_status_that_is_half_readable_keeps_what_can_be_read() -> None:
    status = begun(batches=counts(succeeded=5), novelty={"a": 1}, failures="none", state="Paused")
    after = status_of(seen(job_seen(status=status), queue=queue(state(4))))
    assert after["startTime"] == status["startTime"], "the queue is not made anew"
    assert after["batches"]["succeeded"] == 5


# --- Events ---
def told(before: dict[str, Any], found: Any, **spec: Any) -> list[tuple[str, str]]:
    observation = seen(job_seen(status=before, spec=spec), **found)
    return [(event.type, event.reason) for event in decide(observation, LIMITS).events]


RUNNING = begun(state="Running", workers={"desired": 2, "ready": 1})
STARTS = (pod("digits-workers-0-a", created=NOW - 3), pod("digits-enqueuer-x", created=NOW - 3))
STUCK = {"pods": (pod("digits-workers-0-a", unscheduled="no node"),)}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(told({}, {}), [], id="the first status tells for itself"),
        pytest.param(told(RUNNING, {}), [], id="nothing new"),
        pytest.param(told(begun(), {}), [("Normal", "Running")], id="another state"),
        pytest.param(told(RUNNING, {"queue": queue(state(10))}), [("Normal", "Completing")], id="completing"),
        pytest.param(told(RUNNING, {}, suspend=True), [("Normal", "Suspended")], id="suspended"),
        pytest.param(
            told(begun(state="Suspended", workers={"desired": 0, "ready": 0}), {}),
            [("Normal", "Resumed")],
            id="resumed",
        ),
        pytest.param(told(RUNNING, {}, workers=5), [("Normal", "Scaled")], id="scaled"),
        pytest.param(told(RUNNING, STUCK), [("Warning", "Unschedulable")], id="stalled"),
        pytest.param(
            told(
                begun(state="Enqueuing"),
                {"queue": queue(state(published=0, sealed=False)), "workers": None, "pods": STARTS},
            ),
            [],
            id="a step back",
        ),
        pytest.param(
            told(RUNNING, {"queue": queue(state(10, completion=Completion.SUCCEEDED))}),
            [("Normal", "AllBatchesSucceeded")],
            id="succeeded",
        ),
        pytest.param(
            told(RUNNING, {"queue": queue(state(halt=Halt("ModelInvalid", "x")))}),
            [("Warning", "ModelInvalid")],
            id="failed",
        ),
        pytest.param(
            told({}, {}, handler={**PYTHON, "project": None}), [("Warning", "ManifestInvalid")], id="refused"
        ),
    ],
)
def test_a_transition_is_told_once(events: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    assert events == expected


def test_the_end_of_a_stall_is_told_and_a_stall_that_goes_on_is_not() -> None:
    was = status_of(seen(job_seen(status=RUNNING), **STUCK))
    for condition in was["conditions"]:
        condition["lastTransitionTime"] = time(NOW - 60)
    assert told(was, STUCK) == []
    assert told(was, {"queue": queue(state(running=1))}) == [("Normal", "NotStalled")]


def test_an_event_fits_what_the_api_server_takes() -> None:
    halt = Halt("HandlerInvalid", "Traceback:\n" + "x" * 9000)
    (event,) = decide(seen(job_seen(status=RUNNING), queue=queue(state(halt=halt))), LIMITS).events
    assert isinstance(event, Told)
    assert len(event.message) <= 1000
    assert "\n" not in event.message
