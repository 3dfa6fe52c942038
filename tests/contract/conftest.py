"""The engines that the queue contract runs against. A new engine is one more entry of ``ENGINES``."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from batchyard.queue.engines import open_queue
from batchyard.queue.port import Delivery, Failure, Queue
from batchyard.queue.sqlite import SqliteQueue
from nats_server import NatsServer, missing


class Engine(NamedTuple):
    """``create`` makes an empty queue in a folder (``server``: on that one) and returns its URL.

    ``short_lease``: seconds worth waiting for. ``whole``: batches published, taken or settled together are seen so.
    """

    create: Callable[..., str]
    short_lease: float
    whole: bool = True
    server: str = ""


def _sqlite(folder: Path) -> str:
    SqliteQueue.create(folder / "queue.db").close()
    return f"sqlite:{folder / 'queue.db'}"


def _jetstream(_folder: Path, server: NatsServer) -> str:
    from batchyard.queue.jetstream import JetStreamQueue

    url = f"{server.address}/job-{uuid4().hex}"
    JetStreamQueue.create(url, lease=JETSTREAM_LEASE).close()
    return url


JETSTREAM_LEASE = 1.5
ENGINES = {
    "sqlite": Engine(_sqlite, short_lease=0.1),
    "jetstream": Engine(_jetstream, short_lease=JETSTREAM_LEASE, whole=False, server="nats_server"),
}


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    if missing():
        pytest.skip(missing())
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    yield server
    server.close()


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture
def short_lease(engine: Engine) -> float:
    return engine.short_lease


@pytest.fixture
def queue_url(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if engine.server:
        return engine.create(tmp_path, request.getfixturevalue(engine.server))
    return engine.create(tmp_path)


@pytest.fixture
def handle(queue_url: str) -> Iterator[Callable[..., Queue]]:
    """Open another handle on the test's queue; all are closed at the end."""
    opened: list[Queue] = []

    def open_handle(owner: str = "") -> Queue:
        opened.append(open_queue(queue_url, owner))
        return opened[-1]

    yield open_handle
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(handle: Callable[..., Queue]) -> Queue:
    return handle("first")


@pytest.fixture
def other(handle: Callable[..., Queue]) -> Queue:
    return handle("second")


@pytest.fixture
def fill(queue: Queue) -> Callable[[int], None]:
    """Publish ``count`` small batches and seal."""

    def publish_and_seal(count: int) -> None:
        queue.publish(0, [b"body %d" % index for index in range(count)])
        queue.seal(count, count)

    return publish_and_seal


@pytest.fixture
def take(queue: Queue) -> Callable[[], Delivery]:
    """Lease exactly one batch, which must be there."""

    def take_one() -> Delivery:
        (delivery,) = queue.receive(1, lease=60, wait=5)
        return delivery

    return take_one


@pytest.fixture
def failure() -> Callable[..., Failure]:
    def build(error: str = "ValueError: 3 is no label", reason: str = "HandlerError") -> Failure:
        return Failure(reason, error, detail="Traceback …\n  line 7", time=1_700_000_000.25, worker="w-1")

    return build
