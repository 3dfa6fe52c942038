"""What the JetStream engine promises beyond the contract: lost queues, absent servers, crashes between two writes."""

import subprocess
import sys
import threading
import time
from uuid import uuid4

import pytest
from batchyard.api.errors import InvalidError
from batchyard.queue.engines import open_queue
from batchyard.queue.port import COMPLETION, Completion, Counts, Failure, PublishConflict, QueueLost, QueueUnavailable
from nats_server import NatsServer, missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from batchyard.queue.jetstream import JetStreamQueue
from batchyard.queue.jetstream_layout import ack_subject, place_of
from batchyard.queue.jetstream_records import NOTHING, Intent, Status, Word, claimed, intent_from
from batchyard.queue.jetstream_thread import run
from batchyard.queue.jetstream_wire import Message

LEASE = 1.5


@pytest.fixture
def server(tmp_path):
    """A server of the test's own, to be killed."""
    server = NatsServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def url(nats_server):
    return f"{nats_server.address}/job-{uuid4().hex}"


@pytest.fixture
def queue(url):
    queue = JetStreamQueue.create(url, lease=LEASE)
    yield queue
    queue.close()


# --- names ---
@pytest.mark.parametrize(
    "url",
    [
        "nats://host:4222",
        "nats://host:4222/",
        "nats:///job",
        "nats://host:4222/a.b",
        "nats://host:4222/a/b",
        "nats://host:port/job",
        "nats:job",
    ],
)
def test_a_url_of_no_queue_is_refused_in_one_sentence(url):
    with pytest.raises(InvalidError, match="expected nats://host:port/<queue name>"):
        open_queue(url)


def test_credentials_in_a_url_are_refused_and_not_repeated():
    with pytest.raises(InvalidError, match="NATS_USER and NATS_PASSWORD") as refused:
        open_queue("nats://me:s3cret@host:4222/job")
    assert "s3cret" not in str(refused.value)


def test_a_url_may_name_several_servers():
    assert place_of("tls://a:1,b:2/job").servers == ("tls://a:1", "tls://b:2")


@pytest.mark.parametrize(
    "subject",
    ["$JS.ACK.job-batches.b.3.17.20.1795.5", "$JS.ACK.hub.AB12.job-batches.b.3.17.20.1795.5.x"],
    ids=["plain", "with domain and account"],
)
def test_a_delivery_tells_its_consumer_its_count_and_its_message(subject):
    assert ack_subject(subject) == ("b", 3, 17)


# --- delivery counts ---
@pytest.mark.parametrize(
    ("before", "delivered", "lost"),
    [
        pytest.param(NOTHING, 1, 0, id="the first"),
        pytest.param(NOTHING, 3, 2, id="two went by without a word"),
        pytest.param(Status(Word.GIVEN_BACK, 3, lost=1), 4, 1, id="given back"),
        pytest.param(Status(Word.GIVEN_BACK, 3, lost=1), 6, 3, id="given back, then two without a word"),
        pytest.param(Status(Word.LEASED, 3, lost=1), 4, 2, id="a lease that ran out"),
        pytest.param(Status(Word.LEASED, 3, lost=1), 3, 1, id="claimed again after a fault"),
        pytest.param(Status(Word.GIVEN_BACK, 3, attempts=2), 1, 0, id="a server that forgot"),
    ],
)
def test_losses_are_deliveries_without_a_word(before, delivered, lost):
    status = claimed(before, delivered, "me")
    assert (status.lost, status.attempts, status.word, status.delivered) == (
        lost,
        before.attempts,
        Word.LEASED,
        delivered,
    )


# --- an enqueuer that dies between the intent and the batches ---
def test_the_cursor_is_the_one_of_what_was_published():
    intent = Intent(0, 2, b"two").followed(3, b"five", 2, "a")
    assert [intent.cursor_at(n) for n in (2, 5, 4)] == [b"two", b"five", None]
    rival = intent.followed(1, b"three", 2, "b")  # took over; either may be the one that happens
    assert [rival.cursor_at(n) for n in (2, 3, 5)] == [b"two", b"three", b"five"]
    assert intent_from(rival.to_bytes()) == rival
    after = rival.followed(1, b"six", 5, "c")
    assert [after.cursor_at(n) for n in (5, 6)] == [b"five", b"six"]


def test_an_intent_without_its_batches_changes_nothing(queue, url):
    queue.publish(0, [b"a"], b"one")
    store = queue._store
    intent = Intent(0, 1, b"one").followed(7, b"eight", 1, "dead")
    run(store.write(store.place.record("c.cursor"), intent.to_bytes()))
    other = open_queue(url)
    assert (other.position().published, other.position().cursor) == (1, b"one")
    other.publish(1, [b"b"], b"two")
    assert (other.position().published, other.position().cursor) == (2, b"two")
    other.close()


def test_a_seal_whose_record_was_not_written_is_completed_by_whoever_looks(queue, url):
    queue.publish(0, [b"a"])
    place = place_of(url)
    run(queue._store.publish(Message(place.token, b'{"published": 1, "items": 5}')))
    other = open_queue(url)
    assert other.position().published == 1
    assert other.position().sealed
    state = other.state()
    assert (state.total, state.items, state.completion, state.counts) == (
        1,
        5,
        Completion.WAITING,
        Counts(1, 0, 0, 0),
    )
    with pytest.raises(PublishConflict):
        other.publish(1, [b"b"])
    other.close()


def test_one_publish_takes_a_thousand_batches(queue):
    queue.publish(0, [b"x"] * 1000)
    with pytest.raises(ValueError, match="at most 1000"):
        queue.publish(1000, [b"x"] * 1001)
    assert queue.position().published == 1000


# --- a worker that dies between two writes ---
@pytest.mark.parametrize("word", [Word.SUCCEEDED, Word.FAILED])
def test_a_batch_whose_last_word_is_on_record_is_removed_and_not_run_again(queue, url, word):
    queue.publish(0, [b"a"])
    queue.receive(1, lease=LEASE, wait=0)
    store = queue._store
    run(store.write(store.place.status(0), Status(word, 1).to_bytes()))
    other = open_queue(url)
    assert other.receive(1, lease=60, wait=2 * LEASE) == []
    counts = other.state().counts
    assert (counts.published, counts.settled, counts.running) == (1, 1, 0)
    other.close()


# --- creating, deleting, losing ---
def test_creating_again_changes_nothing(queue, url):
    queue.publish(0, [b"a"])
    JetStreamQueue.create(url, lease=LEASE).close()
    assert queue.state().counts == Counts(1, 0, 0, 0)


def test_deleting_twice_is_fine(url):
    JetStreamQueue.create(url).close()
    JetStreamQueue.delete(url)
    JetStreamQueue.delete(url)
    with pytest.raises(QueueLost, match="it is gone"):
        open_queue(url)


OPERATIONS = {
    "position": lambda q, d: q.position(),
    "publish": lambda q, d: q.publish(1, [b"b"]),
    "publish many": lambda q, d: q.publish(1, [b"b", b"c"]),
    "seal": lambda q, d: q.seal(1, 1),
    "receive": lambda q, d: q.receive(1, 60, 30),
    "receive_completion": lambda q, d: q.receive_completion(60),
    "ack": lambda q, d: q.ack([d]),
    "extend": lambda q, d: q.extend([d], 60),
    "retry": lambda q, d: q.retry(d, 0, Failure("HandlerError", "x")),
    "release": lambda q, d: q.release([d]),
    "bury": lambda q, d: q.bury(d, Failure("HandlerError", "x")),
    "state": lambda q, d: q.state(),
    "halt": lambda q, d: q.halt("Cancelled", ""),
    "failed": lambda q, d: list(q.failed()),
    "recent_failures": lambda q, d: q.recent_failures(3),
    "last_attempt_failure": lambda q, d: q.last_attempt_failure(0),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_says_that_the_queue_is_gone(queue, url, name):
    queue.publish(0, [b"a"])
    (delivery,) = queue.receive(1, lease=60, wait=0)
    JetStreamQueue.delete(url)
    with pytest.raises(QueueLost):
        OPERATIONS[name](queue, delivery)


def test_a_queue_made_anew_under_its_name_is_not_the_same(queue, url):
    queue.publish(0, [b"a"])
    JetStreamQueue.delete(url)
    JetStreamQueue.create(url).close()
    with pytest.raises(QueueLost, match="made anew"):
        queue.state()


def test_a_waiting_worker_learns_that_its_queue_is_gone(queue, url):
    threading.Timer(0.3, JetStreamQueue.delete, [url]).start()
    queue.seal(0, 0)
    token = queue.receive_completion(lease=60)
    assert token.index == COMPLETION
    with pytest.raises(QueueLost):
        queue.receive(1, lease=60, wait=60)


# --- servers ---
def test_a_server_that_is_away_is_unavailable_and_then_goes_on(server):
    queue = JetStreamQueue.create(f"{server.address}/job")
    queue.publish(0, [b"a", b"b"], b"two")
    (delivery,) = queue.receive(1, lease=60, wait=0)
    server.kill()
    for operation in (queue.state, lambda: queue.ack([delivery])):
        with pytest.raises(QueueUnavailable, match=r"127\.0\.0\.1"):
            operation()
    server.start()
    assert queue.ack([delivery]) == [True]
    assert queue.state().counts == Counts(2, 1, 0, 0)
    queue.publish(2, [b"c"], b"three")
    assert queue.position().cursor == b"three"
    queue.close()


def test_a_worker_that_waits_gets_batches_after_a_restart_of_the_server(server):
    queue = JetStreamQueue.create(f"{server.address}/job")
    restarted = threading.Thread(target=lambda: (time.sleep(0.2), server.kill(), server.start()))
    restarted.start()
    got = []
    while restarted.is_alive() or not got:
        try:
            got = queue.receive(1, lease=60, wait=0.5)
            if not got and not restarted.is_alive() and not queue.position().published:
                queue.publish(0, [b"late"])
        except QueueUnavailable:
            continue
    assert [d.body for d in got] == [b"late"]
    queue.close()


def test_a_server_without_its_disk_has_lost_the_queue(server):
    queue = JetStreamQueue.create(f"{server.address}/job")
    queue.publish(0, [b"a"])
    server.kill()
    server.forget_everything()
    server.start()
    with pytest.raises(QueueLost):
        queue.state()
    queue.close()


def test_no_server_is_unavailable(server):
    server.kill()
    with pytest.raises(QueueUnavailable, match="cannot be reached"):
        open_queue(f"{server.address}/job")


def test_credentials_come_from_the_environment_and_stay_out_of_errors(tmp_path, monkeypatch):
    server = NatsServer(tmp_path, more="authorization { user: worker, password: s3cret }")
    try:
        monkeypatch.setenv("NATS_USER", "worker")
        monkeypatch.setenv("NATS_PASSWORD", "wr0ng")
        with pytest.raises(QueueUnavailable) as refused:
            JetStreamQueue.create(f"{server.address}/job")
        assert "wr0ng" not in str(refused.value)
        monkeypatch.setenv("NATS_PASSWORD", "s3cret")
        queue = JetStreamQueue.create(f"{server.address}/job")
        assert queue.state().counts == Counts(0, 0, 0, 0)
        queue.close()
    finally:
        server.close()


# --- leases ---
def test_what_a_handle_holds_back_behind_the_gate_comes_to_others_when_it_closes(queue, url):
    queue.publish(0, [b"x"] * 3)
    first = open_queue(url)
    assert [d.index for d in first.receive(100, lease=60, wait=0.3)] == [0, 1]
    first.close()
    queue.seal(3, 3)
    assert [(d.index, d.lost) for d in queue.receive(100, lease=60, wait=0)] == [(2, 0)]


def test_the_newest_failures_are_found_among_many_records(queue):
    queue.publish(0, [b"x"] * 60)
    queue.seal(60, 60)
    for delivery in queue.receive(60, lease=60, wait=0):
        if delivery.index % 3:
            assert queue.bury(delivery, Failure("HandlerError", f"{delivery.index}"))
        else:
            assert queue.retry(delivery, 60, Failure("HandlerError", "again"))
    assert [b.index for b in queue.recent_failures(5)] == [59, 58, 56, 55, 53]
    assert len(queue.recent_failures(100)) == 40
    assert queue.state().counts == Counts(60, 0, 40, 0)


PORT_ALONE = "import sys, batchyard.queue.engines; sys.exit('nats' in sys.modules)"


def test_nats_is_not_imported_where_it_is_not_used():
    assert subprocess.run([sys.executable, "-c", PORT_ALONE]).returncode == 0


def test_a_handle_belongs_to_one_thread_and_closes_twice(queue, url):
    handle = open_queue(url)
    threads = [threading.Thread(target=handle.state)]
    threads[0].start()
    threads[0].join()
    with pytest.raises(RuntimeError, match="belongs to the thread"):
        handle.state()
    handle.close()
    handle.close()
    with pytest.raises(RuntimeError, match="closed"):
        handle.state()


# --- a server that forgets what it gave out ---
def test_of_two_who_hold_a_batch_after_a_crash_one_has_the_last_word(server):
    """A killed server may give a batch out a second time as if it were the first."""
    url = f"{server.address}/job"
    first = JetStreamQueue.create(url, lease=60)
    first.publish(0, [b"x"] * 50)
    first.seal(50, 50)
    taken = first.receive(50, lease=60, wait=0)
    server.kill()  # right after, so that some of the deliveries are not written down
    server.start()
    second = open_queue(url)
    again = {d.index: d for d in second.receive(50, lease=60, wait=0.5)}
    for delivery in taken:
        buried = first.bury(delivery, Failure("HandlerError", "x"))
        acked = delivery.index in again and second.ack([again[delivery.index]])[0]
        assert buried != acked
    counts = first.state().counts
    assert counts.published == counts.settled == 50
    assert sorted(batch.index for batch in first.failed()) == sorted({d.index for d in taken} - set(again))
    first.close()
    second.close()
