"""What stays readable of batches that failed."""

import pytest
from batchyard.queue.port import FailedBatch, Failure


def test_failed_batches_come_by_index_with_all_that_is_known(queue, other, fill, failure):
    fill(4)
    deliveries = queue.receive(4, lease=60, wait=0)
    for index in (3, 0, 2):
        assert queue.bury(deliveries[index], failure(f"error {index}"))
    assert list(other.failed()) == [
        FailedBatch(index, b"body %d" % index, 1, failure(f"error {index}")) for index in (0, 2, 3)
    ]


def test_the_newest_failures_come_newest_first_without_bodies(queue, other, fill, failure):
    fill(4)
    deliveries = queue.receive(4, lease=60, wait=0)
    for index in (3, 0, 2):
        queue.bury(deliveries[index], failure(f"error {index}"))
    assert other.recent_failures(2) == [FailedBatch(index, b"", 1, failure(f"error {index}")) for index in (2, 0)]
    assert [batch.index for batch in other.recent_failures(10)] == [2, 0, 3]
    assert other.recent_failures(0) == []


def test_a_job_without_failures_has_none(queue, fill):
    fill(1)
    assert list(queue.failed()) == []
    assert queue.recent_failures(5) == []
    assert queue.last_attempt_failure(0) is None
    assert queue.last_attempt_failure(12345) is None


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Failure("ProcessDied", ""), id="bare"),
        pytest.param(
            Failure("HandlerError", "größe 数 🎈 \x00 \u2028 'q' \"d\"", "x\n" * 8192, 1e9 + 0.5, "w"), id="odd text"
        ),
        pytest.param(Failure("HandlerError", "file \udcff", "\ud800", 0.1), id="lone surrogates"),
    ],
)
def test_a_failure_comes_out_as_it_went_in(queue, fill, take, failure):
    fill(1)
    queue.retry(take(), 0, failure)
    assert queue.last_attempt_failure(0) == failure
    queue.bury(take(), failure)
    assert queue.recent_failures(1)[0].failure == failure


def test_the_failure_of_the_newest_attempt_is_kept_until_the_batch_succeeds(queue, other, fill, take, failure):
    fill(1)
    queue.retry(take(), 0, failure("first"))
    queue.retry(take(), 0, failure("second"))
    assert other.last_attempt_failure(0) == failure("second")
    queue.ack([take()])
    assert other.last_attempt_failure(0) is None


def test_burying_without_an_attempt_leaves_the_newest_attempt_as_it_was(queue, fill, take, failure):
    fill(1)
    queue.retry(take(), 0, failure("the attempt"))
    queue.bury(take(), failure("lost too often", reason="WorkerLost"), attempted=False)
    assert queue.last_attempt_failure(0) == failure("the attempt")
    assert queue.recent_failures(1)[0].failure.reason == "WorkerLost"


def test_burying_with_an_attempt_records_it(queue, fill, take, failure):
    fill(1)
    queue.bury(take(), failure("the last one"))
    assert queue.last_attempt_failure(0) == failure("the last one")


def test_a_slow_reader_of_failed_batches_hinders_nobody(queue, other, fill, failure):
    fill(10)
    deliveries = queue.receive(10, lease=60, wait=0)
    for delivery in deliveries[:4]:
        queue.bury(delivery, failure())
    reader = other.failed()
    assert next(reader).index == 0
    for delivery in deliveries[4:]:
        assert queue.bury(delivery, failure())
    assert [batch.index for batch in reader] == list(range(1, 10))
