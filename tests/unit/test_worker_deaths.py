"""How the end of a handler process is shared out among the batches it held."""

import pytest
from batchyard.api.messages import Header
from batchyard.queue.port import COMPLETION, Delivery
from batchyard.worker.outcomes import AttemptFailed, End, GivenBack, Work, share_out


def work(index, *, timed_out=False):
    return Work(Delivery(index, b"", 0, 0, lease=index), Header(index, 1), timed_out=timed_out)


def end(*running, stopping=False, doomed=False, stack="", last_lines=()):
    slots = dict.fromkeys(running, 0.0)
    return End(slots, "exited with code 3", stack, last_lines, 2.5, "w", stopping=stopping, doomed=doomed)


def shared(in_hand, how):
    """Return what became of each batch, by index: a failure's reason, "back", or "suspect"."""
    outcomes, suspects = share_out(in_hand, how, 9.0)
    found = {w.delivery.index: "suspect" for w in suspects}
    for outcome in outcomes:
        index = outcome.work.delivery.index
        assert index not in found, "each batch has one end"
        found[index] = outcome.failure.reason if isinstance(outcome, AttemptFailed) else "back"
    return found


@pytest.mark.parametrize(
    ("in_hand", "how", "expected"),
    [
        pytest.param({}, end(), {}, id="nothing in hand"),
        pytest.param({1: work(0)}, end(1), {0: "ProcessDied"}, id="the one that ran"),
        pytest.param({1: work(0)}, end(), {0: "back"}, id="one that had not started"),
        pytest.param(
            {1: work(0), 2: work(1), 3: work(2)},
            end(1),
            {0: "ProcessDied", 1: "back", 2: "back"},
            id="those that waited behind it",
        ),
        pytest.param(
            {1: work(0), 2: work(1), 3: work(2)},
            end(1, 2),
            {0: "suspect", 1: "suspect", 2: "back"},
            id="several ran: nobody can tell",
        ),
        pytest.param(
            {1: work(0, timed_out=True), 2: work(1)},
            end(1, 2, doomed=True),
            {0: "BatchTimeout", 1: "back"},
            id="the neighbour of one that timed out",
        ),
        pytest.param(
            {1: work(0, timed_out=True), 2: work(1, timed_out=True)},
            end(1, 2, doomed=True),
            {0: "BatchTimeout", 1: "BatchTimeout"},
            id="two timed out",
        ),
        pytest.param({2: work(1)}, end(2, doomed=True), {1: "back"}, id="the one that timed out finished after all"),
        pytest.param({1: work(0), 2: work(1)}, end(1, stopping=True), {0: "back", 1: "back"}, id="the worker stops"),
        pytest.param(
            {1: work(0, timed_out=True)},
            end(1, stopping=True, doomed=True),
            {0: "back"},
            id="both at once",
        ),
        pytest.param({1: work(COMPLETION)}, end(1), {COMPLETION: "ProcessDied"}, id="on_job_complete"),
    ],
)
def test_only_what_can_have_done_it_pays(in_hand, how, expected):
    assert shared(in_hand, how) == expected


def test_a_death_is_told_with_the_stack_and_the_last_output():
    ((outcome,), _) = share_out({1: work(0)}, end(1, stack="File x", last_lines=["a", "b"]), 9.0)
    assert isinstance(outcome, AttemptFailed)
    assert outcome.failure.error == "the handler process exited with code 3 while it ran the batch"
    assert outcome.failure.detail == "File x\nlast output:\na\nb"
    assert (outcome.failure.time, outcome.failure.worker) == (9.0, "w")


def test_a_death_in_on_job_complete_says_so():
    ((outcome,), _) = share_out({1: work(COMPLETION)}, end(1), 9.0)
    assert isinstance(outcome, AttemptFailed)
    assert outcome.failure.error.endswith("while it ran on_job_complete")


def test_a_timeout_names_the_limit_and_keeps_the_stack():
    ((outcome,), _) = share_out({1: work(0, timed_out=True)}, end(1, stack="File x", doomed=True), 9.0)
    assert isinstance(outcome, AttemptFailed)
    assert "batchTimeout (2.5 s)" in outcome.failure.error
    assert outcome.failure.detail == "File x"


def test_a_batch_given_back_says_why_and_is_not_taken_for_a_missing_server():
    ((outcome,), _) = share_out({1: work(0)}, end(), 9.0)
    assert isinstance(outcome, GivenBack)
    assert "exited with code 3" in outcome.reason
    assert not outcome.transient


def test_a_detail_is_bounded_and_keeps_its_end():
    ((outcome,), _) = share_out({1: work(0)}, end(1, stack="x" * 50_000, last_lines=["the end"]), 9.0)
    assert isinstance(outcome, AttemptFailed)
    assert len(outcome.failure.detail) <= 16 * 1024
    assert outcome.failure.detail.endswith("the end")
