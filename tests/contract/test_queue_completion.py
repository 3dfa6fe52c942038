"""How a job ends: the completion token, and the halt."""

import threading

import pytest
from batchyard.queue.engines import open_queue
from batchyard.queue.port import COMPLETION, Completion, Counts, Halt


@pytest.fixture
def settled(queue, fill, take):
    """A sealed queue of two batches, both succeeded."""
    fill(2)
    queue.ack([take(), take()])


def token(queue):
    delivery = queue.receive_completion(lease=60)
    assert delivery is not None
    return delivery


def test_the_token_is_given_only_when_sealed_and_every_batch_is_settled(queue, take, failure):
    assert queue.receive_completion(lease=60) is None
    queue.publish(0, [b"a", b"b"])
    queue.ack([take()])
    assert queue.receive_completion(lease=60) is None
    queue.seal(2, 2)
    assert queue.receive_completion(lease=60) is None  # one pending
    delivery = take()
    assert queue.receive_completion(lease=60) is None  # one running
    queue.retry(delivery, 0, failure())
    assert queue.receive_completion(lease=60) is None  # one retried
    queue.bury(take(), failure())
    delivery = token(queue)
    assert (delivery.index, delivery.body, delivery.attempts, delivery.lost) == (COMPLETION, b"", 0, 0)


def test_a_queue_with_every_batch_settled_is_not_done_before_it_is_sealed(queue, take):
    queue.publish(0, [b"a"])
    queue.ack([take()])
    assert queue.receive_completion(lease=60) is None
    assert not queue.state().is_over


def test_an_empty_job_gives_the_token_at_once(queue):
    queue.seal(0, 0)
    assert queue.ack([token(queue)]) == [True]
    assert queue.state().is_over
    assert queue.state().counts == Counts(0, 0, 0, 0)


def test_one_holds_the_token_at_a_time(queue, other, settled):
    delivery = token(queue)
    assert other.receive_completion(lease=60) is None
    assert queue.state().completion is Completion.WAITING
    assert queue.state().counts == Counts(2, 2, 0, running=0)  # the token is no batch
    assert queue.ack([delivery]) == [True]
    assert queue.state().completion is Completion.SUCCEEDED
    assert queue.state().is_over


def test_a_settled_token_is_never_given_again(queue, other, settled):
    delivery = token(queue)
    queue.ack([delivery])
    assert other.receive_completion(lease=60) is None
    assert queue.ack([delivery]) == [False]


def test_a_token_that_failed_keeps_its_failure(queue, other, settled, failure):
    assert queue.bury(token(queue), failure("on_job_complete: no such bucket"))
    state = other.state()
    assert state.completion is Completion.FAILED
    assert state.completion_failure == failure("on_job_complete: no such bucket")
    assert state.is_over
    assert state.counts == Counts(2, 2, 0, 0)
    assert list(queue.failed()) == []
    assert other.receive_completion(lease=60) is None


def test_the_token_is_retried_like_a_batch(queue, settled, failure):
    assert queue.retry(token(queue), 0, failure("first"))
    assert queue.last_attempt_failure(COMPLETION) == failure("first")
    delivery = token(queue)
    assert (delivery.attempts, delivery.lost) == (1, 0)
    assert queue.retry(delivery, 60, failure("second"))
    assert queue.receive_completion(lease=60) is None
    assert queue.state().completion is Completion.WAITING


def test_a_released_token_comes_back_with_no_attempt(queue, settled):
    assert queue.release([token(queue)]) == [True]
    assert token(queue).attempts == 0


def test_a_token_whose_lease_runs_out_goes_to_another(queue, other, settled, short_lease):
    stale = queue.receive_completion(lease=short_lease)
    held = None
    while held is None:
        assert other.receive(1, lease=60, wait=short_lease) == []  # waits, as a worker does
        held = other.receive_completion(lease=60)
    assert held.lost == 1
    assert queue.extend([stale], 60) == [False]
    assert queue.ack([stale]) == [False]
    assert other.extend([held], 60) == [True]
    assert other.ack([held]) == [True]


def test_the_token_settles_beside_a_stale_batch(queue, fill, take):
    fill(1)
    batch = take()
    assert queue.ack([batch]) == [True]
    assert queue.ack([batch, token(queue)]) == [False, True]
    assert queue.state().counts == Counts(1, 1, 0, 0)
    assert queue.state().completion is Completion.SUCCEEDED


def test_a_halted_job_gives_out_nothing_and_says_why(queue, other, fill):
    fill(2)
    halt = Halt("ErrorThresholdExceeded", "3 of 10 batches failed – „größer“ than 2")
    assert queue.halt(halt.reason, halt.message) == halt
    assert other.state().halt == halt
    assert other.state().is_over
    assert other.receive(1, lease=60, wait=0) == []


def test_a_waiting_worker_learns_of_a_halt_long_before_its_wait_ends(queue_url, queue):
    got = []

    def wait():
        mine = open_queue(queue_url)
        got.append(mine.receive(1, lease=60, wait=600))
        mine.close()

    waiting = threading.Thread(target=wait)
    waiting.start()
    queue.halt("Cancelled", "")
    waiting.join(60)
    assert got == [[]]


def test_the_first_halt_stays(queue, other):
    first = queue.halt("ModelInvalid", "no saved_model.pb")
    assert other.halt("WorkersFailed", "all workers are gone") == first
    assert queue.state().halt == first


def test_running_batches_are_settled_during_a_halt(queue, fill, take, failure):
    fill(3)
    a, b, c = take(), take(), take()
    queue.halt("Cancelled", "")
    assert queue.extend([a], 60) == [True]
    assert queue.ack([a]) == [True]
    assert queue.bury(b, failure())
    assert queue.release([c]) == [True]
    assert queue.state().counts == Counts(3, 1, 1, 0)


def test_a_halted_job_goes_on_after_resume(queue, other, fill):
    fill(1)
    queue.halt("Cancelled", "")
    other.resume()
    assert queue.state().halt is None
    assert [d.index for d in queue.receive(1, lease=60, wait=0)] == [0]
    other.resume()  # nothing to take back: harmless


def test_the_token_waits_while_the_job_is_halted(queue, settled):
    queue.halt("Cancelled", "")
    assert queue.receive_completion(lease=60) is None
    queue.resume()
    assert queue.ack([token(queue)]) == [True]
