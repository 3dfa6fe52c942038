"""What a worker decides, as tables: settlements, backoff, thresholds, how much to hold, words for a death."""

import pytest
from batchyard.api.messages import Header
from batchyard.queue.port import Completion, Counts, Delivery, Failure, State
from batchyard.worker import core
from batchyard.worker.core import Bury, Retry
from batchyard.worker.settings import RetrySettings, ThresholdSettings, WorkerSettings
from hypothesis import given
from hypothesis import strategies as st

FAILURE = Failure("HandlerError", "no")
HEADER = Header(0, 1)


def delivery(attempts=0, lost=0, index=4):
    return Delivery(index, b"", attempts, lost, lease=1)


def settings(**values):
    handler = {"type": "python", "project": "/project"}
    base = {"job_id": "j", "job_name": "j", "worker": "w", "queue": "sqlite:/q", "handler": handler}
    return WorkerSettings.model_validate(base | values)


def state(published=100, failed=0, succeeded=0, *, sealed=True):
    completion = Completion.WAITING if sealed else Completion.ABSENT
    return State(Counts(published, succeeded, failed, 0), completion, None, None, published if sealed else None)


@pytest.mark.parametrize(
    ("attempts", "allowed", "kind"),
    [
        pytest.param(0, 3, Retry, id="first of three"),
        pytest.param(1, 3, Retry, id="second of three"),
        pytest.param(2, 3, Bury, id="third of three"),
        pytest.param(5, 3, Bury, id="more than allowed, after the bound was lowered"),
        pytest.param(0, 1, Bury, id="only one"),
    ],
)
def test_a_failed_attempt_is_followed_by_another_until_they_are_used_up(attempts, allowed, kind):
    settlement = core.after_failure(delivery(attempts), FAILURE, RetrySettings(max_attempts=allowed), 0.0)
    assert isinstance(settlement, kind)
    assert settlement.failure is FAILURE
    if isinstance(settlement, Bury):
        assert settlement.attempted


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"),
    [
        (1, 0.0, 1.0),
        (2, 0.0, 2.0),
        (3, 0.0, 4.0),
        (9, 0.0, 256.0),
        (10, 0.0, 300.0),
        (10_000, 0.0, 300.0),
        (3, 0.5, 3.0),
    ],
)
def test_backoff_doubles_up_to_its_bound(attempt, jitter, seconds):
    assert core.backoff(attempt, RetrySettings(backoff_initial=1.0, backoff_max=300.0), jitter) == seconds


@given(
    attempt=st.integers(1, 10**6),
    initial=st.floats(0, 1e6),
    most=st.floats(0, 1e6),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_backoff_stays_within_half_and_whole_of_its_bound(attempt, initial, most, jitter):
    retry = RetrySettings(backoff_initial=initial, backoff_max=most)
    full = core.backoff(attempt, retry, 0.0)
    assert full <= most
    assert full / 2 <= core.backoff(attempt, retry, jitter) <= full
    assert full <= core.backoff(attempt + 1, retry, 0.0)


@pytest.mark.parametrize(
    ("header", "attempts", "lost", "reason"),
    [
        pytest.param(HEADER, 0, 0, None, id="fine"),
        pytest.param(HEADER, 2, 9, None, id="one attempt and one loss left"),
        pytest.param(None, 0, 0, "InvalidItem", id="not a message"),
        pytest.param(Header(0, 1, invalid="line 3"), 0, 0, "InvalidItem", id="invalid line"),
        pytest.param(Header(0, 1, invalid="line 3"), 0, 50, "InvalidItem", id="invalid before lost"),
        pytest.param(HEADER, 0, 10, "WorkerLost", id="lost"),
        pytest.param(HEADER, 0, 11, "WorkerLost", id="lost more often than allowed"),
    ],
)
def test_what_must_not_run_is_buried_without_an_attempt(header, attempts, lost, reason):
    burial = core.before_run(delivery(attempts, lost), header, settings())
    if reason is None:
        assert burial is None
    else:
        assert burial is not None
        assert burial.failure is not None
        assert (burial.failure.reason, burial.attempted) == (reason, False)


@pytest.mark.parametrize("lost", [0, 10])
def test_used_up_attempts_are_buried_with_the_failure_on_record(lost):
    assert core.before_run(delivery(3, lost), HEADER, settings()) == Bury(None, attempted=False)


def test_an_invalid_line_is_named_in_its_burial():
    burial = core.before_run(delivery(), Header(0, 1, invalid="data.jsonl, line 3: no JSON"), settings())
    assert burial == Bury(Failure("InvalidItem", "data.jsonl, line 3: no JSON"), attempted=False)


@pytest.mark.parametrize(
    ("threshold", "look", "sentence"),
    [
        pytest.param({}, state(failed=100), None, id="none set"),
        pytest.param({"batches": 2}, state(failed=2), None, id="as many as allowed"),
        pytest.param({"batches": 2}, state(failed=3), "3 batches failed, errorThreshold allows 2", id="one more"),
        pytest.param({"batches": 0}, state(failed=0), None, id="none allowed, none failed"),
        pytest.param({"batches": 0}, state(failed=1), "1 batch failed", id="none allowed, one failed"),
        pytest.param({"batches": 0}, state(failed=1, sealed=False), "1 batch failed", id="before the seal"),
        pytest.param({"percent": 5.0}, state(failed=5), None, id="as large a share as allowed"),
        pytest.param({"percent": 5.0}, state(failed=6), "6 of 100 batches failed (6 %)", id="a larger share"),
        pytest.param({"percent": 5.0}, state(failed=99, sealed=False), None, id="share before the total is known"),
        pytest.param({"percent": 0.0}, state(published=0), None, id="no batches"),
        pytest.param({"percent": 0.0}, state(published=10**6, failed=1), "(0.0001 %)", id="a tiny share"),
        pytest.param({"percent": 100.0}, state(failed=100), None, id="all may fail"),
    ],
)
def test_the_error_threshold_is_judged_by_what_is_known(threshold, look, sentence):
    found = core.threshold_passed(ThresholdSettings(**threshold), look)
    if sentence is None:
        assert found is None
    else:
        assert found is not None
        assert sentence in found


@pytest.mark.parametrize(
    ("threads", "seconds", "depth"),
    [
        pytest.param(1, None, 1, id="nothing known yet"),
        pytest.param(4, None, 4, id="nothing known yet, threads"),
        pytest.param(1, 1.0, 1, id="slow batches: none waits behind another"),
        pytest.param(1, 0.01, 3, id="10 ms"),
        pytest.param(2, 0.0001, 34, id="fast batches"),
        pytest.param(1, 0.0, 33, id="no time at all"),
    ],
)
def test_only_fast_batches_wait_inside_a_process(threads, seconds, depth):
    assert core.feed_depth(threads, seconds) == depth


@pytest.mark.parametrize(
    ("capacity", "seconds", "ahead"),
    [
        pytest.param(1, None, 0, id="nothing known yet"),
        pytest.param(8, 3600.0, 0, id="an hour a batch"),
        pytest.param(1, 0.1, 2, id="100 ms"),
        pytest.param(4, 0.1, 10, id="100 ms, four processes"),
        pytest.param(1, 0.0, 512, id="no time at all"),
    ],
)
def test_prefetch_is_a_quarter_second_of_work(capacity, seconds, ahead):
    assert core.prefetch(capacity, seconds) == ahead


@given(st.integers(1, 64), st.floats(0, 1e5), st.floats(0, 1e5))
def test_slower_batches_are_never_held_in_greater_number(count, one, other):
    fast, slow = sorted((one, other))
    assert core.feed_depth(count, fast) >= core.feed_depth(count, slow) >= count
    assert core.prefetch(count, fast) >= core.prefetch(count, slow) >= 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with code 0"),
        (70, "exited with code 70"),
        (-11, "was killed by SIGSEGV (signal 11)"),
        (-9, "was killed by SIGKILL (signal 9; the kernel does this when memory runs out)"),
        (-200, "was killed by an unknown signal (signal 200)"),
    ],
)
def test_a_death_is_told_in_words(code, words):
    assert core.death(code) == words
