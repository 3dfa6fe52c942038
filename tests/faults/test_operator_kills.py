"""The operator dies before or after any of its requests: the next one finds what was done and finishes it, once."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from api_server import ApiServer
from batchyard.queue.jetstream_watch import JetStreamWatch
from batchyard.queue.port import QueueLost
from batchyard_operator.__main__ import Operator
from batchyard_operator.act.door import Door
from batchyard_operator.model import Key
from batchyard_operator.settings import OperatorSettings
from nats_server import NatsServer, missing
from operator_harness import FILES, FINALIZER, Job, Space, know_batchjobs

if missing():
    pytest.skip(missing(), allow_module_level=True)

_numbers = itertools.count()
_WRITES = ("POST", "PATCH", "DELETE")


class Died(BaseException):
    """The process is gone: nothing of ours may catch it."""


class MortalDoor(Door):
    """A door whose process dies at the n-th write: before it is sent, or after it was done."""

    left: float = float("inf")
    is_done_first = False

    async def _request(self, method: str, *arguments: Any, **more: Any) -> dict[str, Any]:
        if method not in _WRITES:
            return await super()._request(method, *arguments, **more)
        self.left -= 1
        if self.left < 0 and not self.is_done_first:
            raise Died
        answer = await super()._request(method, *arguments, **more)
        if self.left < 0:
            raise Died
        return answer


class MortalWatch(JetStreamWatch):
    """Queues whose maker dies right after a change of them."""

    dies = False

    async def create(self, name: str, *, lease: float, replicas: int) -> None:
        await super().create(name, lease=lease, replicas=replicas)
        if self.dies:
            raise Died

    async def delete(self, name: str) -> None:
        await super().delete(name)
        if self.dies:
            raise Died


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def space(api_server: ApiServer, nats: NatsServer) -> Space:
    return Space(know_batchjobs(api_server), nats, "operator-kills")


@pytest.fixture
def job(space: Space) -> Job:
    return space.create(f"job-{next(_numbers)}", input=FILES, workers=2)


@pytest.fixture(autouse=True)
def _kubeconfig(monkeypatch: pytest.MonkeyPatch, api_server: ApiServer) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    monkeypatch.setenv("NATS_TOKEN", "sesame")


def live(
    job: Job, turns: int, *, writes: float = float("inf"), done_first: bool = False, queue: bool = False
) -> bool:
    """Run turns of one job in an operator that begins with nothing; return whether it died of it.

    What the watches would tell is read before each turn.
    """

    async def life() -> bool:
        settings = OperatorSettings.model_validate(
            {"queue": {"url": job.space.nats.address, "lease": 5}, "images": {"handler": "none/handler"}}
        )
        from kubernetes.aio import config
        from kubernetes.aio.client.api_client import ApiClient
        from kubernetes.aio.client.configuration import Configuration

        client = Configuration()
        await config.load_kube_config(
            str(job.space.server.kubeconfig), client_configuration=client, persist_config=False
        )
        door, queues = MortalDoor(ApiClient(client)), await MortalWatch.open(job.space.nats.address)
        door.left, door.is_done_first, queues.dies = writes, done_first, queue
        operator = Operator(settings, door, queues)
        try:
            for _ in range(turns):
                see(operator, job)
                await operator.cycle.turn(Key(job.space.name, job.name))
        except Died:
            return True
        finally:
            await queues.close()
            await door.close()
        return False

    return asyncio.run(life())


def see(operator: Operator, job: Job) -> None:
    """Play the watches."""
    if (found := job.space.get("batchjobs", job.name)) is not None:
        operator.caches.see_job(None, found)
    for name in ("workers", "enqueuer"):
        if (child := job.space.get("jobs", f"{job.name}-{name}")) is not None:
            operator.caches.see_child(None, child)


def uids(job: Job) -> dict[str, str]:
    return {name: child["metadata"]["uid"] for name, child in job.children().items()}


MOMENTS = [
    pytest.param(number, done, id=f"{'after' if done else 'before'} write {number + 1}")
    for number in range(7)
    for done in (False, True)
]


@pytest.mark.parametrize(("writes", "done_first"), MOMENTS)
def test_a_job_is_made_once(job: Job, writes: int, done_first: bool):
    died = live(job, 5, writes=writes, done_first=done_first)
    assert died, "fewer writes than this make a job: shorten the table"
    made, started = uids(job), job.status.get("startTime")
    assert not made or FINALIZER in job.object["metadata"]["finalizers"]
    assert not made or started
    assert not live(job, 5)
    assert uids(job) | made == uids(job)
    assert set(uids(job)) == {"jobs/workers", "jobs/enqueuer", "configmaps/job", "secrets/queue"}
    assert started in (None, job.status["startTime"])
    assert not live(job, 1)  # a status that came within a second of the last one
    before = job.versions()
    assert not live(job, 3)
    assert job.versions() == before


def test_a_queue_made_by_an_operator_that_died_of_it_is_made_again(job: Job):
    assert live(job, 5, queue=True)
    assert "startTime" not in job.status
    assert not live(job, 5)
    queue = job.queue()
    assert queue.state().counts.published == 0
    queue.close()


@pytest.mark.parametrize(("writes", "done_first"), MOMENTS[:6])
def test_a_deleted_job_is_given_back_whole(job: Job, writes: int, done_first: bool):
    assert not live(job, 5)
    queue = job.queue()
    job.space.delete("batchjobs", job.name)
    died = live(job, 1, writes=writes, done_first=done_first)
    assert died is (writes < 2)  # both Jobs are deleted in the first turn
    assert not live(job, 1)
    job.collect_children()
    assert live(job, 2, writes=0, done_first=done_first)  # at the finalizer
    with pytest.raises(QueueLost):
        queue.state()
    queue.close()
    if job.space.get("batchjobs", job.name) is not None:
        assert not live(job, 1)
    assert job.space.get("batchjobs", job.name) is None


def test_an_operator_that_died_of_deleting_the_streams_still_lets_the_job_go(job: Job):
    assert not live(job, 5)
    job.space.delete("batchjobs", job.name)
    assert not live(job, 1)
    job.collect_children()
    assert live(job, 1, queue=True)
    assert job.object["metadata"]["finalizers"] == [FINALIZER]
    assert not live(job, 1)
    assert job.space.get("batchjobs", job.name) is None


@pytest.mark.parametrize("done_first", [False, True], ids=["before", "after"])
def test_the_last_status_is_written_by_the_next_one(job: Job, done_first: bool):
    assert not live(job, 5)
    queue = job.queue()
    queue.publish(0, [b"x"] * 3)
    queue.seal(3, 3)
    queue.ack(queue.receive(3, 5, 0))
    token = queue.receive_completion(5)
    assert token is not None
    queue.ack([token])
    queue.close()
    assert live(job, 1, writes=0, done_first=done_first)
    end = job.status.get("completionTime")
    assert (end is not None) is done_first
    assert not live(job, 1)
    assert job.status["state"] == "Succeeded"
    assert job.status["batches"]["succeeded"] == 3
    assert end in (None, job.status["completionTime"])
