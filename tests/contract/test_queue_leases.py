"""What a worker may rely on: a batch is held by one at a time and settled once."""

import json
import subprocess
import sys
import threading

import pytest
from batchyard.queue.engines import open_queue
from batchyard.queue.port import Counts


def settle(how, queue, delivery, failure):
    return {
        "ack": lambda: queue.ack([delivery])[0],
        "retry": lambda: queue.retry(delivery, 0, failure()),
        "release": lambda: queue.release([delivery])[0],
        "bury": lambda: queue.bury(delivery, failure()),
        "extend": lambda: queue.extend([delivery], 60)[0],
    }[how]()


SETTLES = ["ack", "retry", "release", "bury"]


def test_batches_come_by_index_up_to_the_limit(queue, fill):
    fill(5)
    assert [(d.index, d.body, d.attempts, d.lost) for d in queue.receive(2, lease=60, wait=0)] == [
        (0, b"body 0", 0, 0),
        (1, b"body 1", 0, 0),
    ]
    assert [d.index for d in queue.receive(100, lease=60, wait=0)] == [2, 3, 4]
    assert queue.receive(100, lease=60, wait=0) == []
    assert queue.state().counts == Counts(5, 0, 0, running=5)


def test_every_delivery_has_a_lease_of_its_own(queue, fill):
    fill(3)
    leases = []
    for _ in range(4):
        taken = queue.receive(3, lease=60, wait=5)
        leases += [d.lease for d in taken]
        queue.release(taken)
    assert len(set(leases)) == 12


def test_settling_nothing_settles_nothing(queue, fill):
    fill(1)
    assert queue.ack([]) == queue.release([]) == queue.extend([], 5) == []
    assert queue.state().counts == Counts(1, 0, 0, 0)


def test_an_acked_batch_counts_once_and_never_comes_back(queue, fill, take):
    fill(2)
    delivery = take()
    assert queue.ack([delivery, delivery]) == [True, False]
    assert queue.ack([delivery]) == [False]
    assert queue.state().counts == Counts(2, 1, 0, 0)
    assert take().index == 1


def test_a_retried_batch_comes_back_when_due_with_one_more_attempt(queue, fill, take, failure, short_lease):
    fill(1)
    for attempts in range(3):
        delivery = take()
        assert (delivery.index, delivery.attempts, delivery.lost) == (0, attempts, 0)
        assert queue.retry(delivery, short_lease, failure())
        assert queue.receive(1, lease=60, wait=0) == []
        assert queue.state().counts == Counts(1, 0, 0, 0)


def test_a_released_batch_comes_back_with_no_attempt_and_no_loss(queue, fill, take, short_lease):
    fill(1)
    assert queue.release([take()]) == [True]
    delivery = take()
    assert queue.release([delivery], delay=short_lease) == [True]
    assert queue.receive(1, lease=60, wait=0) == []
    delivery = take()
    assert (delivery.attempts, delivery.lost) == (0, 0)


@pytest.mark.parametrize(("attempted", "attempts"), [(True, 2), (False, 1)])
def test_a_buried_batch_keeps_its_attempts(queue, fill, take, failure, attempted, attempts):
    fill(1)
    queue.retry(take(), 0, failure())
    assert queue.bury(take(), failure("gave up"), attempted=attempted)
    assert queue.state().counts == Counts(1, 0, 1, 0)
    assert [(b.index, b.attempts, b.failure.error) for b in queue.failed()] == [(0, attempts, "gave up")]


def test_a_lease_that_runs_out_gives_the_batch_to_another_and_is_counted(queue, other, fill, short_lease):
    fill(1)
    for lost in range(3):
        (delivery,) = (queue, other)[lost % 2].receive(1, lease=short_lease, wait=10)
        assert (delivery.attempts, delivery.lost) == (0, lost)


def test_losses_and_attempts_are_counted_apart(queue, fill, take, failure, short_lease):
    fill(1)
    queue.receive(1, lease=short_lease, wait=0)
    queue.retry(take(), 0, failure())
    delivery = take()
    assert (delivery.attempts, delivery.lost) == (1, 1)


def test_an_extended_lease_holds(queue, other, fill, short_lease):
    fill(1)
    (delivery,) = queue.receive(1, lease=short_lease, wait=0)
    assert queue.extend([delivery], 60) == [True]
    assert other.receive(1, lease=60, wait=3 * short_lease) == []
    assert queue.ack([delivery]) == [True]


@pytest.mark.parametrize("how", [*SETTLES, "extend"])
def test_a_settle_after_the_batch_went_to_another_is_refused_and_changes_nothing(
    queue, other, fill, failure, short_lease, how
):
    fill(1)
    (stale,) = queue.receive(1, lease=short_lease, wait=0)
    (held,) = other.receive(1, lease=60, wait=10)
    assert settle(how, queue, stale, failure) is False
    assert queue.state().counts == Counts(1, 0, 0, running=1)
    assert queue.last_attempt_failure(0) is None
    assert other.ack([held]) == [True]
    assert queue.state().counts == Counts(1, 1, 0, 0)


@pytest.mark.parametrize("second", [*SETTLES, "extend"])
@pytest.mark.parametrize("first", SETTLES)
def test_a_settled_delivery_cannot_be_settled_again(queue, fill, take, failure, first, second):
    fill(1)
    delivery = take()
    assert settle(first, queue, delivery, failure) is True
    before = queue.state()
    assert settle(second, queue, delivery, failure) is False
    assert queue.state() == before


@pytest.mark.parametrize("how", [*SETTLES, "extend"])
def test_a_delivery_may_be_settled_through_another_handle(queue, other, fill, take, failure, how):
    fill(1)
    assert settle(how, other, take(), failure) is True


def test_leases_outlive_the_handle_that_took_them(queue, handle, fill):
    fill(1)
    gone = handle()
    (delivery,) = gone.receive(1, lease=60, wait=0)
    gone.close()
    assert queue.receive(1, lease=60, wait=0) == []
    assert queue.ack([delivery]) == [True]


def test_mixed_settles_answer_one_by_one(queue, other, fill, short_lease):
    fill(3)
    lost = queue.receive(1, lease=short_lease, wait=0)
    held = queue.receive(2, lease=60, wait=0)
    assert [d.index for d in other.receive(1, lease=60, wait=10)] == [0]
    assert queue.ack([held[0], *lost, held[1]]) == [True, False, True]
    assert queue.state().counts == Counts(3, 2, 0, running=1)


def test_a_waiting_worker_gets_what_is_published_meanwhile(queue_url, queue):
    got = []

    def wait():
        mine = open_queue(queue_url)
        got.extend(mine.receive(5, lease=60, wait=30))
        mine.close()

    waiting = threading.Thread(target=wait)
    waiting.start()
    queue.publish(0, [b"late"])
    waiting.join(20)
    assert [d.body for d in got] == [b"late"]


def test_threads_that_race_for_one_delivery_settle_it_once(queue_url, queue, fill, failure):
    fill(20)
    deliveries = queue.receive(20, lease=60, wait=0)
    how = ["ack", "bury", "retry", "release"]
    barrier = threading.Barrier(len(how))
    won = {index: [] for index in range(20)}

    def race(mine):
        handle = open_queue(queue_url)
        barrier.wait()
        for delivery in deliveries:
            if settle(mine, handle, delivery, failure):
                won[delivery.index].append(mine)
        handle.close()

    threads = [threading.Thread(target=race, args=(mine,)) for mine in how]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [len(winners) for winners in won.values()] == [1] * 20
    winners = [winner for (winner,) in won.values()]
    assert queue.state().counts == Counts(20, winners.count("ack"), winners.count("bury"), 0)


WORKER = """
import json, sys
from batchyard.queue.engines import open_queue
queue = open_queue(sys.argv[1])
mine = []
while not queue.state().is_over:
    taken = queue.receive(7, lease=60, wait=0.2)
    mine += [d.index for d, ok in zip(taken, queue.ack(taken)) if ok]
    token = queue.receive_completion(lease=60)
    mine += [d.index for d, ok in zip([token], queue.ack([token])) if ok] if token else []
queue.close()
print(json.dumps(mine))
"""


def test_processes_that_share_a_queue_settle_each_batch_and_the_token_once(queue_url, queue):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, queue_url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for first in range(0, 600, 50):
        queue.publish(first, [b"x"] * 50)
    queue.seal(600, 600)
    settled = [index for worker in workers for index in json.loads(worker.communicate(timeout=60)[0])]
    assert sorted(settled) == list(range(-1, 600))
    assert queue.state().counts == Counts(600, 600, 0, 0)


def test_a_reader_sees_whole_states_while_others_write(queue_url, queue, engine):
    stop = threading.Event()
    odd, looks = [], []

    def watch():
        reader = open_queue(queue_url)
        while not stop.is_set():
            counts = reader.state().counts
            looks.append(counts)
            # publishes and acks below go by tens: a state in between would show another remainder
            apart = counts.succeeded % 10 or counts.running not in (0, 10)
            if counts.published % 10 or counts.pending < 0 or (engine.whole and apart):
                odd.append(counts)
        reader.close()

    watching = threading.Thread(target=watch)
    watching.start()
    for first in range(0, 1000, 10):
        queue.publish(first, [b"x"] * 10)
        if first >= 500:
            assert queue.ack(queue.receive(10, lease=60, wait=0)) == [True] * 10
    stop.set()
    watching.join(20)
    assert odd == []
    assert looks == sorted(looks, key=lambda counts: (counts.published, counts.settled))
