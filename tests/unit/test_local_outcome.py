"""From the queue's state to exit code, state and reason."""

import pytest
from batchyard.local.outcome import outcome
from batchyard.queue.port import Completion, Counts, Failure, Halt, State


def state(succeeded=0, failed=0, published=5, completion=Completion.SUCCEEDED, halt=None, failure=None):
    return State(Counts(published, succeeded, failed, 0), completion, failure, halt, published)


@pytest.mark.parametrize(
    ("found", "interrupted", "expected"),
    [
        pytest.param(state(5), False, (0, "Succeeded", "AllBatchesSucceeded"), id="all succeeded"),
        pytest.param(state(4, 1), False, (3, "CompletedWithFailures", "SomeBatchesFailed"), id="one failed"),
        pytest.param(state(0, 5), False, (3, "CompletedWithFailures", "SomeBatchesFailed"), id="all failed"),
        pytest.param(state(published=0), False, (0, "Succeeded", "AllBatchesSucceeded"), id="no batch"),
        pytest.param(
            state(2, completion=Completion.ABSENT, halt=Halt("ModelInvalid", "corrupt")),
            False,
            (1, "Failed", "ModelInvalid"),
            id="halted",
        ),
        pytest.param(
            state(2, completion=Completion.WAITING, halt=Halt("HandlerInvalid", "no class")),
            True,
            (1, "Failed", "HandlerInvalid"),
            id="halted while it was being stopped",
        ),
        pytest.param(
            state(4, 1, completion=Completion.FAILED, failure=Failure("HandlerError", "no mail")),
            False,
            (1, "Failed", "OnJobCompleteFailed"),
            id="on_job_complete failed",
        ),
        pytest.param(
            state(2, completion=Completion.WAITING), True, (130, "Interrupted", "Interrupted"), id="interrupted"
        ),
        pytest.param(state(5), True, (0, "Succeeded", "AllBatchesSucceeded"), id="stopped after its end"),
        pytest.param(
            state(5, completion=Completion.WAITING), False, (1, "Failed", "WorkersFailed"), id="nobody finished it"
        ),
    ],
)
def test_the_outcome_of_a_state(found, interrupted, expected):
    ended = outcome(found, interrupted=interrupted)
    assert (ended.exit_code, ended.state, ended.reason) == expected
    assert ended.message


def test_a_failed_on_job_complete_tells_its_error():
    found = state(5, completion=Completion.FAILED, failure=Failure("HandlerError", "ConnectionError: no mail"))
    assert "ConnectionError: no mail" in outcome(found).message


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(state(2, completion=Completion.WAITING), "3 of the 5 batches published so far", id="running"),
        pytest.param(state(4, 1, completion=Completion.WAITING), "on_job_complete has not ended", id="completing"),
        pytest.param(state(published=0, completion=Completion.ABSENT), "no batch was enqueued yet", id="starting"),
    ],
)
def test_an_interruption_says_what_is_left(found, message):
    assert message in outcome(found, interrupted=True).message
