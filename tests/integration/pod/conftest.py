"""A real NATS server, and jobs on it whose pods are folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nats_server import NatsServer, missing
from pod_harness import Job, MakeJob


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    if missing():
        pytest.skip(missing())
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    yield server
    server.close()


@pytest.fixture
def make_job(tmp_path: Path, nats_server: NatsServer) -> Iterator[MakeJob]:
    """Make jobs as `Job(folder, server, spec)` does; their processes are gone after the test."""
    made: list[Job] = []

    def make(spec: dict[str, Any], **more: Any) -> Job:
        folder = tmp_path / f"{len(made)}"
        folder.mkdir()
        made.append(Job(folder, nats_server, spec, **more))
        return made[-1]

    yield make
    for job in made:
        job.close()
