"""What is the SQLite engine's own: the file, the clock, the owner of a lease, the handle."""

import os
import sqlite3
import threading

import apsw
import pytest
from batchyard.api.errors import InvalidError
from batchyard.queue.port import Counts, Failure, QueueLost, QueueUnavailable
from batchyard.queue.sqlite import SqliteQueue
from batchyard.queue.sqlite_schema import check_library


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queue.db"


@pytest.fixture
def queue(path, clock):
    queue = SqliteQueue.create(path, "me", clock)
    yield queue
    queue.close()


@pytest.fixture
def other(path, clock, queue):
    other = SqliteQueue.open(path, "you", clock)
    yield other
    other.close()


# --- the file ---
def test_creating_over_a_file_is_refused_and_leaves_it_alone(path):
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="there is such a file already"):
        SqliteQueue.create(path)
    assert path.read_text() == "precious"


def test_creating_leaves_one_file_and_nothing_beside_it(path):
    SqliteQueue.create(path).close()
    assert [p.name for p in path.parent.iterdir()] == ["queue.db"]


def test_creating_in_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(QueueUnavailable, match=r"nowhere/queue\.db"):
        SqliteQueue.create(tmp_path / "nowhere" / "queue.db")


def no_file(path):
    pass


def text(path):
    path.write_text("hello, this is no database at all" * 100)


def empty(path):
    path.touch()


def foreign(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t(x)")
    connection.close()


def newer(path):
    SqliteQueue.create(path).close()
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        pytest.param(no_file, "there is no such file", id="no file"),
        pytest.param(text, "not a Batchyard queue", id="a text"),
        pytest.param(empty, "not a Batchyard queue", id="an empty file"),
        pytest.param(foreign, "not a Batchyard queue", id="another program's database"),
        pytest.param(newer, "found layout 99, expected 1", id="a newer layout"),
    ],
)
def test_opening_what_is_no_queue_is_refused_in_one_sentence(path, there, sentence):
    there(path)
    before = sorted(p.name for p in path.parent.iterdir())
    with pytest.raises(QueueLost, match=sentence) as refused:
        SqliteQueue.open(path)
    assert str(path) in str(refused.value)
    assert sorted(p.name for p in path.parent.iterdir()) == before


def test_a_folder_is_no_queue(tmp_path):
    with pytest.raises((QueueLost, QueueUnavailable), match=str(tmp_path)):
        SqliteQueue.open(tmp_path)


@pytest.mark.parametrize("version", ["3.51.2", "3.46.1", "3.7.17"])
def test_an_sqlite_that_can_corrupt_a_shared_file_is_refused(version):
    with pytest.raises(InvalidError, match=rf"found {version}, expected 3\.51\.3 or newer"):
        check_library(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "3.100.0", "4.0.0"])
def test_a_newer_sqlite_is_taken(version):
    check_library(version)


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced by another queue"])
def test_a_file_deleted_under_a_handle_is_noticed(queue, path, tmp_path, replaced):
    queue.publish(0, [b"a"])
    for file in list(tmp_path.iterdir()):
        file.unlink()
    if replaced:
        SqliteQueue.create(path).close()
    for operation in (queue.state, lambda: queue.publish(1, [b"b"]), lambda: queue.receive(1, 5, 60)):
        with pytest.raises(QueueLost, match=str(path)):
            operation()


def test_a_relative_path_stays_the_same_file_after_a_change_of_folder(path, monkeypatch, tmp_path_factory):
    SqliteQueue.create(path).close()
    monkeypatch.chdir(path.parent)
    queue = SqliteQueue.open("queue.db")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    queue.publish(0, [b"a"])
    queue.close()


def test_a_damaged_file_is_lost_and_not_miscounted(queue, path):
    queue.publish(0, [b"x" * 1000] * 100)
    queue.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 30)
    damaged = SqliteQueue.open(path)
    with pytest.raises(QueueLost, match="damaged"):
        damaged.state()
    damaged.close()


def test_a_file_that_others_keep_locked_is_unavailable_after_a_while_and_then_goes_on(path, queue):
    impatient = SqliteQueue.open(path, patience=0.05)
    lock = apsw.Connection(str(path))
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueUnavailable, match="locked"):
        impatient.publish(0, [b"a"])
    assert impatient.state().counts.published == 0  # readers do not mind
    lock.execute("ROLLBACK")
    lock.close()
    impatient.publish(0, [b"a"])
    impatient.close()


def test_space_of_settled_batches_is_used_again(queue, path):
    def run(first):
        queue.publish(first, [b"x" * 1000] * 500)
        taken = queue.receive(500, lease=60, wait=0)
        queue.ack(taken)
        return len(taken)

    done = run(0)
    for first in range(500, 5000, 500):
        done += run(first)
    queue.close()
    assert done == 2500  # the half that the gate lets through
    assert path.stat().st_size < 2500 * 1000 * 1.6  # the other half is still in it; ten rounds left no trace


def test_the_wal_stays_small_while_a_reader_is_slow(queue, other, path):
    queue.publish(0, [b"x" * 1000] * 20)
    queue.seal(20, 20)
    for delivery in queue.receive(20, lease=1e6, wait=0):
        queue.bury(delivery, Failure("HandlerError", "x"))
    reader = other.failed()
    next(reader)
    for count in range(8_000):
        queue.halt("Cancelled", f"{count}")
        queue.resume()
        if count % 2000 == 0:
            next(reader)
    assert path.with_name("queue.db-wal").stat().st_size < 16 << 20


# --- the clock ---
def test_a_lease_ends_at_its_very_second(queue, other, clock):
    queue.publish(0, [b"a"])
    queue.receive(1, lease=30, wait=0)
    clock.now += 29.5
    assert queue.state().counts == Counts(1, 0, 0, running=1)
    assert other.receive(1, lease=30, wait=0) == []
    clock.now += 0.5
    assert queue.state().counts == Counts(1, 0, 0, running=0)
    assert other.receive(1, lease=30, wait=0)[0].lost == 1


def test_a_late_settle_counts_as_long_as_nobody_else_holds_the_batch(queue, clock):
    queue.publish(0, [b"a"])
    (delivery,) = queue.receive(1, lease=30, wait=0)
    clock.now += 1000
    assert queue.ack([delivery]) == [True]
    assert queue.state().counts == Counts(1, 1, 0, 0)


def test_batches_that_come_back_go_before_new_ones_by_due_time_and_index(queue, clock):
    queue.publish(0, [b"x"] * 8)
    queue.seal(8, 8)
    a, b, c, d = queue.receive(4, lease=30, wait=0)
    queue.release([d, b], delay=5)
    queue.retry(c, 3, Failure("HandlerError", "x"))
    queue.retry(a, 100, Failure("HandlerError", "x"))
    clock.now += 10
    assert [delivery.index for delivery in queue.receive(100, lease=30, wait=0)] == [2, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("back", [5.0, 3600.0, 10 * 365 * 86400.0], ids=["seconds", "an hour", "ten years"])
def test_a_clock_that_goes_back_takes_the_leases_along(queue, other, clock, back):
    clock.now = 2_000_000_000.0
    queue.publish(0, [b"x"] * 4)
    queue.seal(4, 4)
    held, retried = queue.receive(2, lease=30, wait=0)
    queue.retry(retried, 60, Failure("HandlerError", "x"))
    clock.now -= back
    assert [d.index for d in other.receive(4, lease=1000, wait=0)] == [2, 3]
    assert queue.extend([held], 30) == [True]
    clock.now += 32
    assert [d.index for d in other.receive(4, lease=1000, wait=0)] == [0]
    clock.now += 31
    assert [d.index for d in other.receive(4, lease=1000, wait=0)] == [1]


# --- waiting ---
def test_a_waiting_worker_is_sent_on_when_the_token_is_free(queue):
    queue.seal(0, 0)
    assert queue.receive(1, lease=60, wait=3600) == []  # far over the test's own timeout
    token = queue.receive_completion(lease=60)
    assert queue.receive(1, lease=60, wait=0.2) == []  # held: now there is something to wait for
    queue.ack([token])
    assert queue.receive(1, lease=60, wait=3600) == []


# --- owners ---
def test_reclaimed_leases_come_back_at_once_as_lost(queue, other):
    queue.publish(0, [b"x"] * 10)
    mine = queue.receive(2, lease=1000, wait=0)
    other.receive(2, lease=1000, wait=0)
    assert queue.reclaim("nobody") == 0
    assert other.reclaim("me") == 2
    assert other.reclaim("me") == 0
    assert queue.state().counts.running == 2
    assert [(d.index, d.lost, d.attempts) for d in other.receive(2, lease=1000, wait=0)] == [(0, 1, 0), (1, 1, 0)]
    assert queue.ack(mine) == [False, False]
    assert queue.reclaim(None) == 4
    assert queue.state().counts.running == 0


def test_leases_taken_back_after_an_interruption_count_no_loss_even_when_they_ran_out_since(queue, other, clock):
    queue.publish(0, [b"x"] * 4)
    queue.seal(4, 4)
    held = queue.receive(1, lease=10, wait=0) + queue.receive(1, lease=1000, wait=0)
    clock.now += 100
    assert other.reclaim(None, lost=False) == 2
    assert queue.ack(held) == [False, False]
    assert [(d.index, d.lost) for d in other.receive(2, lease=1000, wait=0)] == [(0, 0), (1, 0)]


def test_a_reclaimed_token_comes_back(queue, other):
    queue.seal(0, 0)
    queue.receive_completion(lease=1000)
    assert other.reclaim("me") == 1
    assert other.receive_completion(lease=1000).lost == 1


# --- the handle ---
def test_a_handle_serves_the_thread_that_used_it_first(path, queue):
    handle = SqliteQueue.open(path)  # opened here, used there: fine
    states = []
    thread = threading.Thread(target=lambda: states.append(handle.state()))
    thread.start()
    thread.join()
    assert states == [queue.state()]
    with pytest.raises(RuntimeError, match="belongs to the thread that used it first"):
        handle.state()
    handle.close()


def test_a_handle_does_not_survive_fork_and_its_parent_goes_on(queue, path):
    queue.publish(0, [b"a"])
    child = os.fork()
    if child == 0:
        try:
            queue.state()
        except RuntimeError as error:
            queue.close()
            os._exit(7 if "does not survive fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    queue.publish(1, [b"b"])
    assert queue.state().counts.published == 2


def test_a_closed_handle_says_so_and_closes_twice(path):
    queue = SqliteQueue.create(path)
    queue.close()
    queue.close()
    with pytest.raises(RuntimeError, match="closed"):
        queue.state()
