"""Servers that go away under a running operator: it waits, says so, and goes on when they are back."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import api_server as api_servers
import pytest
from nats_server import NatsServer, missing
from operator_harness import Operator, Space, know_batchjobs, wait_for


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server of the test's own."""
    if what := missing():
        pytest.skip(what)
    folder = tmp_path / "nats"
    folder.mkdir()
    server = NatsServer(folder)
    yield server
    server.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[api_servers.ApiServer]:
    """An API server of the test's own."""
    if what := api_servers.missing():
        pytest.skip(what)
    with api_servers.running(tmp_path / "api") as server:
        yield know_batchjobs(server)


@pytest.fixture
def own_operator(tmp_path: Path) -> Iterator[list[Operator]]:
    started: list[Operator] = []
    yield started
    for operator in started:
        operator.close()
        assert operator.traces() == []


def restart(server: api_servers.ApiServer) -> None:
    """Start the API server again as it was; its etcd lives on."""
    process = server.processes[1]
    server.processes[1] = subprocess.Popen(
        process.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=server.folder
    )

    def ready() -> bool:
        try:
            return server.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    wait_for("the API server", ready)


def test_an_api_server_that_restarts_is_waited_for(
    own_server: api_servers.ApiServer, own_nats: NatsServer, own_operator: list[Operator], tmp_path: Path
):
    space = Space(own_server, own_nats, "default")
    operator = Operator(tmp_path, own_server, own_nats).start()
    own_operator.append(operator)
    job = space.create()
    job.wait_for_workers()
    own_server.processes[1].kill()
    own_server.processes[1].wait()
    queue = job.queue()
    queue.publish(0, [b"x"] * 5)
    queue.seal(5, 5)
    restart(own_server)
    job.wait("five batches", lambda status: status.get("batches", {}).get("total") == 5)
    other = space.create("other", workers=2)
    other.wait_for_workers()
    job.spec(workers=3)
    wait_for("three workers", lambda: (job.workers() or {"spec": {}})["spec"].get("parallelism") == 3)
    queue.close()
    assert operator.process is not None
    assert operator.process.poll() is None


def test_an_operator_that_starts_before_its_servers_waits_for_both(
    own_server: api_servers.ApiServer, own_nats: NatsServer, own_operator: list[Operator], tmp_path: Path
):
    space = Space(own_server, own_nats, "default")
    own_nats.kill()
    own_server.processes[1].kill()
    own_server.processes[1].wait()
    operator = Operator(tmp_path, own_server, own_nats).start()
    own_operator.append(operator)
    wait_for("a word of it", lambda: "waiting for the API server" in operator.log)
    restart(own_server)
    job = space.create()
    job.wait("a status without a queue", lambda status: status.get("state") == "Pending")
    assert "startTime" not in job.status
    own_nats.start()
    job.wait_for_workers()


def test_a_queue_that_is_away_is_told_and_gone_on_with(
    own_nats: NatsServer, api_server: api_servers.ApiServer, own_operator: list[Operator], tmp_path: Path
):
    space = Space(know_batchjobs(api_server), own_nats, "away")
    operator = Operator(tmp_path, api_server, own_nats, namespaces=["away"]).start()
    own_operator.append(operator)
    job = space.create()
    job.wait_for_workers()
    queue = job.queue()
    queue.publish(0, [b"x"] * 5)
    job.wait("five batches", lambda status: status.get("batches", {}).get("pending") == 5)
    own_nats.kill()
    status = job.wait("the stall", lambda status: status.get("reason") == "QueueUnavailable")
    assert status["batches"]["pending"] == 5
    own_nats.start()
    queue.seal(5, 5)
    job.wait("going on", lambda status: status["batches"].get("total") == 5 and not status.get("reason"))
    queue.close()
    job.space.delete("batchjobs", job.name)
    job.collect_children()
    wait_for("the job's end", lambda: space.get("batchjobs", job.name) is None)


def test_a_server_that_comes_back_without_its_disk_has_lost_the_queues(
    own_nats: NatsServer, api_server: api_servers.ApiServer, own_operator: list[Operator], tmp_path: Path
):
    space = Space(know_batchjobs(api_server), own_nats, "diskless")
    operator = Operator(tmp_path, api_server, own_nats, namespaces=["diskless"]).start()
    own_operator.append(operator)
    job = space.create()
    job.wait_for_workers()
    own_nats.kill()
    own_nats.forget_everything()
    own_nats.start()
    assert job.wait_for_state("Failed")["reason"] == "QueueLost"
    again = space.create("again")
    again.wait_for_workers()
    space.delete("batchjobs", job.name)
    job.collect_children()
    wait_for("the job's end", lambda: space.get("batchjobs", job.name) is None)
