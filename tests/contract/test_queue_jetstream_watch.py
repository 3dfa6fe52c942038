"""Watching many jobs' queues over one connection: the same words as a handle's, and a wake when something ended."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
from batchyard.api.errors import InvalidError
from batchyard.queue.port import Failure, Halt, QueueLost, QueueUnavailable
from nats_server import NatsServer, missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from batchyard.queue.jetstream import JetStreamQueue
from batchyard.queue.jetstream_watch import JetStreamWatch

T = TypeVar("T")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of the test's own, to be killed."""
    server = NatsServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def name() -> str:
    return f"bj-{uuid4()}"


@pytest.fixture
def queue(nats_server: NatsServer, name: str) -> Iterator[JetStreamQueue]:
    queue = JetStreamQueue.create(f"{nats_server.address}/{name}", lease=5)
    yield queue
    queue.close()


def watching(address: str, work: Callable[[JetStreamWatch], Awaitable[T]]) -> T:
    """Run ``work`` with a watch, on a loop of its own."""

    async def run() -> T:
        watch = await JetStreamWatch.open(address)
        try:
            return await work(watch)
        finally:
            await watch.close()

    return asyncio.run(run())


def settle_all(queue: JetStreamQueue) -> None:
    while found := queue.receive(10, 5, 0):
        queue.ack(found)


def test_a_watch_sees_what_a_handle_sees_at_every_step(nats_server, name, queue):
    steps = [
        lambda: None,
        lambda: queue.publish(0, [b"a", b"b", b"c"]),
        lambda: queue.seal(3, 6),
        lambda: queue.bury(queue.receive(1, 5, 0)[0], Failure("HandlerError", "no", time=1.0)),
        lambda: queue.retry(queue.receive(1, 5, 0)[0], 60, Failure("HandlerError", "again", time=2.0)),
        lambda: settle_all(queue),
        lambda: queue.halt("Cancelled", "enough"),
        queue.resume,
    ]

    async def look(watch: JetStreamWatch) -> None:
        for step in steps:
            step()  # a handle's calls block this loop for a moment: it belongs to this thread
            seen, again = await watch.state(name), await watch.state(name)
            assert seen == again == queue.state()
            assert await watch.recent_failures(name, 5) == queue.recent_failures(5)

    watching(nats_server.address, look)


def test_a_queue_that_is_not_there_is_lost_and_made_by_create(nats_server, name):
    async def work(watch: JetStreamWatch) -> None:
        with pytest.raises(QueueLost):
            await watch.state(name)
        await watch.create(name, lease=5, replicas=1)
        await watch.create(name, lease=5, replicas=1)
        assert (await watch.state(name)).counts.published == 0
        assert await watch.halt(name, "Cancelled", "enough") == Halt("Cancelled", "enough")
        assert await watch.halt(name, "WorkersFailed", "later") == Halt("Cancelled", "enough")
        await watch.delete(name)
        await watch.delete(name)
        with pytest.raises(QueueLost):
            await watch.state(name)

    watching(nats_server.address, work)


def test_a_queue_that_was_deleted_and_made_anew_is_lost(nats_server, name):
    async def work(watch: JetStreamWatch) -> None:
        await watch.create(name, lease=5, replicas=1)
        await watch.state(name)
        other = await JetStreamWatch.open(nats_server.address)
        await other.delete(name)
        await other.create(name, lease=5, replicas=1)
        await other.close()
        with pytest.raises(QueueLost):
            await watch.state(name)

    watching(nats_server.address, work)


WORKER = """
import sys
from batchyard.queue.jetstream import JetStreamQueue
queue = JetStreamQueue.open(sys.argv[1])
{step}
queue.close()
"""


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("queue.seal(0, 0)", id="sealed"),
        pytest.param("queue.halt('Cancelled', 'enough')", id="halted"),
        pytest.param("queue.halt('Cancelled', 'enough'); queue.resume()", id="resumed"),
        pytest.param("queue.seal(0, 0); queue.ack([queue.receive_completion(5)])", id="token acked"),
    ],
)
def test_what_ends_or_stops_a_job_wakes_whoever_listens(nats_server, name, queue, step):
    process = WORKER.format(step=step)

    async def work(watch: JetStreamWatch) -> int:
        woken: list[str] = []
        await watch.listen(woken.append)
        command = [sys.executable, "-c", process, f"{nats_server.address}/{name}"]
        await asyncio.to_thread(subprocess.run, command, check=True)
        until = time.monotonic() + 20
        while not (mine := woken.count(name)) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return mine

    assert watching(nats_server.address, work) >= 1


def test_an_ordinary_batch_wakes_nobody(nats_server, name, queue):
    async def work(watch: JetStreamWatch) -> list[str]:
        woken: list[str] = []
        await watch.listen(woken.append)
        queue.publish(0, [b"a", b"b"])
        queue.ack(queue.receive(1, 5, 0))
        queue.seal(2, 2)
        until = time.monotonic() + 20
        while name not in woken and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return [each for each in woken if each == name]

    assert watching(nats_server.address, work) == [name]


def test_wakes_come_again_after_the_server_was_away(server, name):
    queue = JetStreamQueue.create(f"{server.address}/{name}", lease=5)

    async def work(watch: JetStreamWatch) -> tuple[int, list[str]]:
        woken: list[str] = []
        await watch.listen(woken.append)
        before = watch.connections
        server.kill()
        server.start()
        until = time.monotonic() + 30
        while not woken and time.monotonic() < until:
            try:
                queue.resume() if queue.halt("Cancelled", "enough") else None
            except QueueUnavailable:
                continue
            await asyncio.sleep(0.1)
        return watch.connections - before, woken

    try:
        connections, woken = watching(server.address, work)
    finally:
        queue.close()
    assert connections >= 1
    assert woken[0] == name


def test_while_the_server_is_away_every_call_says_so_and_none_waits_in_line(server, name):
    async def work(watch: JetStreamWatch) -> None:
        await watch.create(name, lease=5, replicas=1)
        server.kill()
        until = time.monotonic() + 4
        while time.monotonic() < until:
            with pytest.raises(QueueUnavailable):
                await watch.state(name)
            await asyncio.sleep(0.05)
        for _ in range(1000):  # any that waited would make this minutes
            with pytest.raises(QueueUnavailable, match="cannot be reached"):
                await watch.state(name)
        server.start()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                state = await watch.state(name)
            except QueueUnavailable:
                await asyncio.sleep(0.1)
            else:
                assert state.counts.published == 0
                return
        pytest.fail("it did not come back")

    watching(server.address, work)


def test_a_url_of_no_server_is_refused(name):
    with pytest.raises(InvalidError, match="expected nats://host:port"):
        watching("http://somewhere", lambda watch: watch.state(name))


def test_a_watch_that_is_closed_while_it_connects_ends(nats_server):
    async def open_and_close(moment: int) -> None:
        watch = await JetStreamWatch.open(nats_server.address)
        for _ in range(moment):  # at every step of connecting
            await asyncio.sleep(0)
        await asyncio.wait_for(watch.close(), 20)

    for moment in range(60):
        asyncio.run(open_and_close(moment))


def test_a_server_that_the_client_trips_over_is_tried_again(name):
    connections = 0

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"INFO []\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        watch = await JetStreamWatch.open(f"nats://127.0.0.1:{port}")
        try:
            async with asyncio.timeout(20):
                while connections < 3:
                    await asyncio.sleep(0.05)
            with pytest.raises(QueueUnavailable):
                await watch.state(name)
        finally:
            await watch.close()
            server.close()

    asyncio.run(run())
