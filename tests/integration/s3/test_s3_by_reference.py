"""Batches that the queue has no room for: kept in the work prefix, run like any other, removed once settled."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import pytest
from batchyard.enqueue.publish import Outcome, enqueue
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.enqueue.split import InputInvalid
from batchyard.output.read import read_results
from batchyard.queue.jetstream import JetStreamQueue
from batchyard.queue.port import Queue, State
from batchyard.storage.door import open_folder
from batchyard.storage.port import Storage, StoreOptions
from nats_server import NatsServer
from nats_server import missing as missing_nats
from s3_server import READER, S3Server, SpoilingProxy
from worker_harness import Ended, RunningWorker, children_of, wait_until

pytestmark = pytest.mark.skipif(bool(missing_nats()), reason=missing_nats())
HANDLER = """
    import time
    class Handler:
        def __init__(self, config):
            self.config = config
        def handle_batch(self, payload):
            time.sleep(self.config.get("seconds", 0))
            if payload[0]["n"] in self.config.get("bad", []):
                raise ValueError("no")
            return [[item["n"], len(item["text"])] for item in payload]
"""
SIZES = [10, 700_000, 20, 2_000_000, 900_000, 30]
"""Bytes of each item: the queue takes 448 KiB."""


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"), more="max_payload: 524288")
    yield server
    server.close()


class LargeJob:
    """A job on JetStream whose large batches lie in `work`."""

    def __init__(self, folder: Path, nats: NatsServer, work: str, endpoint: str) -> None:
        self.folder, self.work, self.endpoint = folder, work, endpoint
        self.id = f"job-{uuid4().hex[:8]}"
        self.url = f"{nats.address}/{self.id}"
        self.queue: Queue = JetStreamQueue.create(self.url, lease=2.0)
        self.output = folder / "out"
        (folder / "handler.py").write_text(dedent(HANDLER))
        self._workers: list[RunningWorker] = []

    def write(self, sizes: list[int]) -> None:
        lines = (json.dumps({"n": n, "text": "ü" * (size // 2)}, ensure_ascii=False) for n, size in enumerate(sizes))
        (self.folder / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def settings(self) -> EnqueueSettings:
        return EnqueueSettings(
            queue=self.url,
            job_id=self.id,
            input=InputSettings(kind="delimitedFiles", paths=["in.jsonl"]),
            folder=self.folder,
            storage={"work": self.work, "endpoint": self.endpoint},
        )

    def enqueue(self, sizes: list[int]) -> None:
        self.write(sizes)
        assert enqueue(self.queue, self.settings(), threading.Event(), print) is Outcome.SEALED

    def start(self, name: str = "worker-0", config: dict[str, Any] | None = None, **more: Any) -> RunningWorker:
        values = {
            "job_id": self.id,
            "job_name": "job",
            "worker": name,
            "queue": self.url,
            "handler": {
                "type": "python",
                "project": str(self.folder),
                "path": "handler.py",
                "config": config or {},
            },
            "output": {"path": str(self.output)},
            "storage": {"work": self.work, "endpoint": self.endpoint},
            "retry": {"max_attempts": 2, "backoff_initial": 0.05},
            "lease": 2.0,
            **more,
        }
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(values))
        self._workers.append(RunningWorker(path))
        return self._workers[-1]

    def run(self, **more: Any) -> Ended:
        return self.start(**more).wait(120)

    @property
    def state(self) -> State:
        return self.queue.state()

    @property
    def place(self) -> Storage:
        return open_folder(f"{self.work}/{self.id}", StoreOptions(endpoint=self.endpoint))

    def kept(self) -> list[str]:
        return [stored.name for stored in self.place.list()]

    def results(self) -> list[Any]:
        return [line["result"] for line in read_results(self.output)]

    def close(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()
        self.queue.close()


@pytest.fixture
def new_job(
    tmp_path: Path, nats: NatsServer, s3: S3Server, new_prefix: Callable[[], str]
) -> Iterator[Callable[..., LargeJob]]:
    made: list[LargeJob] = []

    def make(work: str | None = None, endpoint: str | None = None) -> LargeJob:
        made.append(LargeJob(tmp_path, nats, new_prefix() if work is None else work, endpoint or s3.endpoint))
        return made[-1]

    yield make
    for job in made:
        job.close()


def batch_name(index: int) -> str:
    return f"batch-{index:09d}.json"


EXPECTED = [[n, size // 2] for n, size in enumerate(SIZES)]


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_large_batches_run_like_the_others_and_leave_nothing(
    new_job: Callable[..., LargeJob], tmp_path: Path, kind: str
):
    job = new_job(str(tmp_path / "work") if kind == "folder" else None)
    job.enqueue(SIZES)
    assert job.kept() == [batch_name(index) for index in (1, 3, 4)]
    assert json.loads(b"".join(job.place.chunks(batch_name(1))))[0]["n"] == 1
    assert job.run().code == 0
    assert job.results() == EXPECTED
    assert (job.state.counts.succeeded, job.state.counts.failed) == (6, 0)
    assert job.kept() == []


def test_a_failed_one_is_in_errors_jsonl_with_its_items_and_is_kept(new_job: Callable[..., LargeJob]):
    job = new_job()
    job.enqueue(SIZES)
    assert job.run(config={"bad": [0, 3]}).code == 0
    lines = [json.loads(line) for line in (job.output / "errors.jsonl").read_text().splitlines()]
    assert [line["batch"] for line in lines] == [0, 3]
    assert [[item["n"], len(item["text"])] for line in lines for item in line["items"]] == [[0, 5], [3, 1_000_000]]
    assert lines[1]["attempts"] == 2
    assert job.kept() == [batch_name(3)]
    assert job.results() == [pair for pair in EXPECTED if pair[0] not in (0, 3)]


def test_without_a_work_prefix_such_a_batch_is_refused_by_name(new_job: Callable[..., LargeJob]):
    job = new_job(work="")
    job.write(SIZES)
    told = (
        r"^in.jsonl:2 \(batch 1, item 1\): found an item of 700,\d\d\d bytes, expected at most 327,680 bytes in one "
        r"batch; set storage.work to a prefix where larger batches are kept\.$"
    )
    with pytest.raises(InputInvalid, match=told):
        enqueue(job.queue, job.settings(), threading.Event(), print)


def test_a_work_prefix_that_cannot_be_written_is_told(
    new_job: Callable[..., LargeJob], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    job = new_job()
    job.write(SIZES)
    with pytest.raises(InputInvalid, match=r"^storage.work: batch 1 cannot be stored: s3://.* lack s3:PutObject"):
        enqueue(job.queue, job.settings(), threading.Event(), print)
    assert job.state.counts.published == 0


def test_items_that_are_gone_fail_their_batch_alone_without_an_attempt(new_job: Callable[..., LargeJob]):
    job = new_job()
    job.enqueue(SIZES)
    job.place.delete(batch_name(3))
    job.place.put(batch_name(4), [b"[]"])
    assert job.run().code == 0
    failed = {batch.index: batch for batch in job.queue.failed()}
    assert sorted(failed) == [3, 4]
    assert {batch.failure.reason for batch in failed.values()} == {"ItemsLost"}
    assert {batch.attempts for batch in failed.values()} == {0}
    assert "there is no such file" in failed[3].failure.error
    assert "found 2 bytes, expected the 900,0" in failed[4].failure.error
    errors = [json.loads(line) for line in (job.output / "errors.jsonl").read_text().splitlines()]
    assert [line["items"] for line in errors] == [None, []]


def test_a_role_that_may_not_read_the_prefix_stops_the_job_and_burns_no_batch(
    new_job: Callable[..., LargeJob], s3: S3Server
):
    proxy = SpoilingProxy(s3.port, lambda number, method, path: "403 AccessDenied" if method == "GET" else None)
    try:
        job = new_job(endpoint=proxy.endpoint)
        job.enqueue(SIZES)
        job.run()
        state = job.state
    finally:
        proxy.close()
    assert state.halt is not None
    assert "storage.work: the items of batch" in state.halt.message
    assert "lack s3:GetObject" in state.halt.message
    assert state.counts.failed == 0


def test_a_delete_that_failed_is_made_up_for_at_the_end(new_job: Callable[..., LargeJob], s3: S3Server):
    proxy = SpoilingProxy(s3.port, lambda number, method, path: "403 AccessDenied" if method == "DELETE" else None)
    try:
        job = new_job(endpoint=proxy.endpoint)
        job.enqueue(SIZES)
        assert job.run().code == 0
        assert job.kept() == []
    finally:
        proxy.close()


@pytest.mark.timeout(240)
def test_an_enqueuer_killed_again_and_again_leaves_each_large_batch_once(
    new_job: Callable[..., LargeJob], tmp_path: Path
):
    job = new_job()
    sizes = [500_000] * 120
    job.write(sizes)
    settings = tmp_path / "enqueue.json"
    settings.write_text(job.settings().model_dump_json())
    command = [sys.executable, "-m", "batchyard.enqueue", str(settings)]
    for share in (10, 40, 80):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda share=share: len(job.kept()) >= share, "large batches")
        process.kill()
        process.wait()
        assert job.state.counts.published <= len(job.kept())
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    assert job.state.counts.published == 120
    assert job.kept() == [batch_name(index) for index in range(120)]
    assert job.run().code == 0
    assert job.results() == [[n, 250_000] for n in range(120)]
    assert job.kept() == []


@pytest.mark.timeout(240)
def test_workers_killed_again_and_again_lose_no_large_batch(new_job: Callable[..., LargeJob]):
    job = new_job()
    job.enqueue([500_000] * 60)
    for kill in range(4):
        before = job.state.counts.settled
        worker = job.start(f"worker-{kill}", config={"seconds": 0.02})
        wait_until(lambda before=before: job.state.counts.settled > before + 6, "progress")
        for pid in children_of(worker.pid):
            os.kill(pid, signal.SIGKILL)
        worker.kill()
    assert job.run(name="worker-last").code == 0
    counts = job.state.counts
    assert counts.published == counts.succeeded + counts.failed == 60
    assert len(job.results()) == counts.succeeded
    assert len(job.kept()) == counts.failed


@pytest.mark.timeout(240)
def test_a_store_killed_and_started_again_costs_no_large_batch(new_job: Callable[..., LargeJob], s3: S3Server):
    job = new_job()
    job.enqueue([500_000] * 40)
    worker = job.start(config={"seconds": 0.05})
    wait_until(lambda: job.state.counts.succeeded > 5, "some results")
    s3.kill()
    s3.start()
    assert worker.wait(180).code == 0
    assert (job.state.counts.succeeded, job.state.counts.failed) == (40, 0)
    assert job.kept() == []


def test_a_worker_holds_few_large_batches_at_once(new_job: Callable[..., LargeJob]):
    """Forty batches of 8 MB, 320 MB in all: what a worker ever has of them is told by its largest size."""
    job = new_job()
    job.enqueue([8_000_000] * 40)
    worker = job.start(config={"seconds": 0.05})
    peak = 0

    def is_over() -> bool:
        nonlocal peak
        status = Path(f"/proc/{worker.pid}/status")
        found = status.read_text() if status.exists() else ""
        peak = max([peak, *(int(line.split()[1]) for line in found.splitlines() if line.startswith("VmHWM"))])
        return job.state.is_over

    wait_until(is_over, "the end")
    assert worker.wait().code == 0
    assert len(job.results()) == 40
    assert peak < 260_000  # kB
