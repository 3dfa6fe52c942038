"""The JetStream queue from one process: fenced publish, receive and confirmed ack, beside the naive ways.

Starts a server of its own on a free loopback port, with its store in a temporary folder. The ways take turns, so that
a noisy machine disturbs them all alike; the claims are medians of the rounds, the best ones are printed beside.

The naive ways: one publish a message, each waiting for its answer (nats-py's `js.publish` with the expected
sequence); `fetch(64)` with one awaited `ack_sync` after another.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parents[1] / "tests")]

import nats  # noqa: E402 - behind the path
from batchyard.queue.engines import open_queue  # noqa: E402 - behind the path
from batchyard.queue.jetstream import JetStreamQueue  # noqa: E402 - behind the path
from batchyard.queue.jetstream_layout import place_of  # noqa: E402 - behind the path
from batchyard.queue.port import Delivery  # noqa: E402 - behind the path
from nats_server import NatsServer, missing  # noqa: E402 - behind the path
from report import Claim, report  # noqa: E402 - behind the path

ROUNDS = 5
BODY = os.urandom(1024)
TOGETHER = 1000
TAKEN = 512
COUNT = 10_000
NAIVE = 1_000
LOOKS = 200
TARGET = 20_000


def rate(count: int, work: Callable[[], None]) -> float:
    """Return ``count`` over the seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def publish(queue: JetStreamQueue) -> None:
    first = queue.position().published
    for index in range(first, first + COUNT, TOGETHER):
        queue.publish(index, [BODY] * TOGETHER, b"cursor")


def look(queue: JetStreamQueue) -> None:
    for _ in range(LOOKS):
        queue.state()


def drain(queue: JetStreamQueue, count: int) -> None:
    """Receive and ack in turns, from one thread."""
    while count > 0:
        taken = queue.receive(min(TAKEN, count), lease=30.0, wait=1.0)
        assert taken
        assert all(queue.ack(taken))
        count -= len(taken)


def drain_as_a_worker(url: str, count: int) -> None:
    """Receive in one thread and ack in another, each with a handle of its own, as a worker does."""
    handed: list[list[Delivery]] = []
    ready = threading.Semaphore(0)

    def settle() -> None:
        with_acks = open_queue(url)
        left = count
        while left > 0:
            ready.acquire()
            taken = handed.pop(0)
            assert all(with_acks.ack(taken))
            left -= len(taken)
        with_acks.close()

    settling = threading.Thread(target=settle)
    settling.start()
    queue = open_queue(url)
    left = count
    while left > 0:
        taken = queue.receive(min(TAKEN, left), lease=30.0, wait=1.0)
        handed.append(taken)
        ready.release()
        left -= len(taken)
    settling.join()
    queue.close()


async def naive_publish(url: str, count: int) -> None:
    place = place_of(url)
    client = await nats.connect(place.servers[0])
    stream = client.jetstream()
    last = (await stream.stream_info(place.batches)).state.last_seq
    for index in range(last, last + count):
        await stream.publish(place.batch, BODY, headers={"Nats-Expected-Last-Sequence": str(index)})
    await client.close()


async def naive_drain(url: str, count: int) -> None:
    place = place_of(url)
    client = await nats.connect(place.servers[0])
    pulls = await client.jetstream().pull_subscribe_bind("b", place.batches)
    while count > 0:
        for message in await pulls.fetch(min(64, count)):
            await message.ack_sync()
            count -= 1
    await client.close()


def main() -> None:
    if missing():
        sys.exit(missing())
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder))
        try:
            measure(f"{server.address}/bench")
        finally:
            server.close()


def measure(address: str) -> None:
    ways: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        url = f"{address}-{number}"
        with closing(JetStreamQueue.create(url)) as queue:
            found = {"publish": rate(COUNT, lambda q=queue: publish(q))}
            publish(queue)  # enough for all ways of receiving
            queue.seal(2 * COUNT, 2 * COUNT)
            found["receive + ack, one thread"] = rate(COUNT // 2, lambda q=queue: drain(q, COUNT // 2))
            found["receive + ack, as a worker"] = rate(COUNT, lambda u=url: drain_as_a_worker(u, COUNT))
            found["looks at the state"] = rate(LOOKS, lambda q=queue: look(q))
        naive = f"{url}-naive"
        JetStreamQueue.create(naive).close()
        found["publish, one by one"] = rate(NAIVE, lambda u=naive: asyncio.run(naive_publish(u, NAIVE)))
        found["receive + ack, one by one"] = rate(NAIVE, lambda u=naive: asyncio.run(naive_drain(u, NAIVE)))
        for gone in (url, naive):
            JetStreamQueue.delete(gone)
        for name, value in found.items():
            ways.setdefault(name, []).append(value)
    for name, values in ways.items():
        print(f"{name}: best {max(values):,.0f}, median {statistics.median(values):,.0f} a second")
    targets = {"publish": TARGET, "receive + ack, as a worker": TARGET}
    report(
        [
            Claim(f"JetStream queue: {name}", statistics.median(values), "a second", ">=", targets.get(name))
            for name, values in ways.items()
        ]
    )


if __name__ == "__main__":
    main()
