"""An API server that knows BatchJobs, a NATS server, an operator between them, and a namespace for each test."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer
from nats_server import NatsServer, missing
from operator_harness import TOKEN, Operator, Space, know_batchjobs

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster(api_server: ApiServer) -> ApiServer:
    return know_batchjobs(api_server)


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    if what := missing():
        pytest.skip(what)
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    yield server
    server.close()


@pytest.fixture
def spaces(cluster: ApiServer, nats: NatsServer) -> Iterator[Callable[[], Space]]:
    """Make namespaces; no job is left in them."""
    made: list[Space] = []

    def make() -> Space:
        made.append(Space(cluster, nats, f"space-{next(_numbers)}"))
        return made[-1]

    yield make
    for space in made:
        for job in space.all("batchjobs"):
            space.patch("batchjobs", job["metadata"]["name"], {"metadata": {"finalizers": None}})
            space.delete("batchjobs", job["metadata"]["name"])


@pytest.fixture
def space(spaces: Callable[[], Space]) -> Space:
    return spaces()


@pytest.fixture
def operators(tmp_path: Path, cluster: ApiServer, nats: NatsServer) -> Iterator[Callable[..., Operator]]:
    """Start operators; none outlives the test, and none met a bug of its own."""
    made: list[Operator] = []

    def start(**settings: Any) -> Operator:
        folder = tmp_path / f"operator-{len(made)}"
        folder.mkdir()
        made.append(Operator(folder, cluster, nats, **settings).start())
        return made[-1]

    yield start
    for operator in made:
        operator.close()
    for operator in made:
        assert operator.traces() == []
        assert TOKEN not in operator.log


@pytest.fixture
def operator(operators: Callable[..., Operator], space: Space) -> Operator:
    """An operator of the test's own namespace."""
    return operators(namespaces=[space.name])
