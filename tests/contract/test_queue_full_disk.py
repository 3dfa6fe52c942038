"""A queue on a disk that is full, or read-only: an answer that passes, and exact counts when there is space again."""

import contextlib
import os
import subprocess
import sys

import pytest
from batchyard.queue.port import Counts, Failure, QueueUnavailable
from batchyard.queue.sqlite import SqliteQueue

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0,
        reason="mounts a small tmpfs: run as root on Linux",
    ),
]

SIZE = 24 << 20  # well over the 4 MB that the WAL grows to between checkpoints


@pytest.fixture
def disk(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", tmp_path]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounts a small tmpfs, which this machine refuses: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)  # a test that failed may hold a handle still


@pytest.fixture
def queue(disk):
    queue = SqliteQueue.create(disk / "queue.db")
    yield queue
    queue.close()


def fill_up(disk):
    """Take all space that is left; return the file that holds it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def attempt(operation, *arguments):
    """Return what the operation returned, or the QueueUnavailable that it raised."""
    try:
        return operation(*arguments)
    except QueueUnavailable as error:
        return error


def publish_until_full(queue):
    """Publish 10 batches of 1 KB at a time; return how many the queue took and what it said then."""
    for published in range(0, 10 * SIZE // 1000, 10):
        bodies = [b"%06d" % i + b"x" * 1000 for i in range(published, published + 10)]
        answer = attempt(queue.publish, published, bodies)
        if answer is not None:
            return published, str(answer)
    raise AssertionError("the disk never filled up")


def test_a_full_disk_passes_and_the_counts_stay_exact(disk, queue):
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(SIZE // 3))
    published, sentence = publish_until_full(queue)
    assert published > 100
    assert sentence == f"queue {disk / 'queue.db'}: the disk is full; free some space there"
    assert queue.state().counts == Counts(published, 0, 0, 0)
    assert queue.position().published == published
    ballast.unlink()
    queue.publish(published, [b"%06d" % i for i in range(published, published + 10)])
    queue.seal(published + 10, 1)
    seen = []
    while taken := queue.receive(50, lease=60, wait=0):
        seen += [int(delivery.body[:6]) for delivery in taken]
        assert all(queue.ack(taken))
    assert seen == list(range(published + 10))
    assert queue.state().counts == Counts(published + 10, published + 10, 0, 0)


def test_a_worker_on_a_full_disk_loses_nothing_and_goes_on_when_there_is_space(disk, queue):
    queue.publish(0, [b"x" * 1000] * 500)
    queue.seal(500, 1)
    ballast = fill_up(disk)
    settled = refused = 0
    for number in range(600):
        if number == 50:
            ballast.unlink()
        taken = attempt(queue.receive, 1, 0, 0)  # a lease that ends at once: what is not settled comes back
        answer = attempt(queue.ack, taken) if isinstance(taken, list) else taken
        settled += answer == [True]
        refused += isinstance(answer, QueueUnavailable)
        counts = queue.state().counts
        assert (counts.published, counts.succeeded) == (500, settled)
    assert refused > 0, "the disk was never full"
    assert settled == 500


def test_settling_needs_no_more_than_a_little_room(disk, queue):
    queue.publish(0, [b"x" * 1000] * 2000)
    queue.seal(2000, 1)
    queue.close()
    queue = SqliteQueue.open(disk / "queue.db")
    ballast = fill_up(disk)
    os.truncate(ballast, ballast.stat().st_size - (256 << 10))
    written = 0
    while taken := queue.receive(20, lease=60, wait=0):
        assert queue.ack(taken) == [True] * 20
        written += 20
    queue.close()
    assert written == 2000


def test_a_read_only_disk_says_so_and_reading_goes_on(disk, queue):
    queue.publish(0, [b"a"])
    (delivery,) = queue.receive(1, lease=60, wait=0)
    queue.close()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        with pytest.raises(QueueUnavailable, match=r"queue\.db"):
            SqliteQueue.open(disk / "queue.db").bury(delivery, Failure("HandlerError", "x"))
        with pytest.raises(QueueUnavailable, match=r"other\.db"):
            SqliteQueue.create(disk / "other.db")
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    again = SqliteQueue.open(disk / "queue.db")
    assert again.ack([delivery]) == [True]
    again.close()
