"""The SQLite queue alone: batches received and acked a second, beside the naive way of one batch a transaction.

Also how fast batches are published and what one look at the counts costs. The two ways of receiving take turns in one
run, so that a noisy machine disturbs both; what is printed is the median of the rounds.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

from batchyard.queue.sqlite import SqliteQueue
from report import Claim, report

ROUNDS = 5
BODY = os.urandom(1024)
WINDOW = 1000  # bodies a publish
PREFETCH = 32  # batches a receive
BATCHED = 20_000  # batches a round
NAIVE = 4_000
LOOKS = 2_000


def publish(queue: SqliteQueue, count: int) -> float:
    """Publish ``count`` batches of 1 KB; return batches a second."""
    first = queue.position().published
    start = time.perf_counter()
    for index in range(first, first + count, WINDOW):
        queue.publish(index, [BODY] * WINDOW, b"cursor")
    return count / (time.perf_counter() - start)


def drain(queue: SqliteQueue, count: int, limit: int) -> float:
    """Receive and ack ``count`` batches, ``limit`` at a time; return batches a second."""
    left = count
    start = time.perf_counter()
    while left:
        deliveries = queue.receive(min(limit, left), lease=30.0, wait=0.0)
        if not deliveries or not all(queue.ack(deliveries)):
            raise AssertionError("the queue gave out less than it holds")
        left -= len(deliveries)
    return count / (time.perf_counter() - start)


def look(queue: SqliteQueue) -> float:
    """Return microseconds a ``state()``."""
    start = time.perf_counter()
    for _ in range(LOOKS):
        queue.state()
    return (time.perf_counter() - start) / LOOKS * 1e6


def measure(folder: Path) -> list[Claim]:
    """Run the rounds on a queue that never runs dry."""
    queue = SqliteQueue.create(folder / "queue.db")
    publish(queue, ROUNDS * (BATCHED + NAIVE))  # the gate lets through one half: all that is drained below
    published, batched, naive, looks = [], [], [], []
    for _ in range(ROUNDS):
        published.append(publish(queue, BATCHED + NAIVE))
        batched.append(drain(queue, BATCHED, PREFETCH))
        naive.append(drain(queue, NAIVE, 1))
        looks.append(look(queue))
    counts = queue.state().counts
    if counts.succeeded != ROUNDS * (BATCHED + NAIVE) or counts.published != 2 * counts.succeeded:
        raise AssertionError(f"the counts are wrong: {counts}")
    queue.close()
    fast, slow = statistics.median(batched), statistics.median(naive)
    return [
        Claim(f"queue: receive + ack, {PREFETCH} at a time, 1 KB", fast, "batches/s", ">=", 20_000),
        Claim("queue: receive + ack, one by one (the naive way)", slow, "batches/s"),
        Claim("queue: batched over one by one", fast / slow, "x"),
        Claim(f"queue: publish, {WINDOW} at a time, 1 KB", statistics.median(published), "batches/s"),
        Claim("queue: one state()", statistics.median(looks), "us", "<="),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        report(measure(Path(folder)))
