"""How a worker ends in a pod: what Kubernetes makes of its exit code is decided here."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nats_server import NatsServer
from pod_harness import Job, MakeJob, inline, results, wait_until

SLOW = """
    import pathlib, time
    class Handler:
        def __init__(self, config):
            self.seconds = config["seconds"]
        def handle_batch(self, payload):
            pathlib.Path(f"started-{payload[0]}").touch()
            time.sleep(self.seconds)
            return payload
"""


def spec(source: str, seconds: float = 0.0, items: int = 4, **more: Any) -> dict[str, Any]:
    return {"handler": inline(source, config={"seconds": seconds}), "input": {"items": list(range(items))}, **more}


def test_sigterm_lets_the_running_batch_end_and_gives_the_rest_back(make_job: MakeJob) -> None:
    job = make_job(spec(SLOW, seconds=1.0))
    pod = job.pod(0, drain=30.0)
    assert pod.fetch().wait().code == 0
    worker = pod.worker()
    wait_until((pod.mnt / "project" / "started-0").exists, "the first batch")
    worker.terminate()
    assert worker.wait().code == 143
    counts = job.state.counts
    assert 1 <= counts.succeeded < 4
    assert (counts.running, counts.failed) == (0, 0)


def test_sigterm_gives_a_batch_back_that_outlasts_the_drain(make_job: MakeJob) -> None:
    job = make_job(spec(SLOW, seconds=600.0))
    pod = job.pod(0, drain=0.5)
    assert pod.fetch().wait().code == 0
    worker = pod.worker()
    wait_until((pod.mnt / "project" / "started-0").exists, "the first batch")
    worker.terminate()
    assert worker.wait().code == 143
    counts = job.state.counts
    assert (counts.succeeded, counts.failed, counts.running, counts.pending) == (0, 0, 0, 4)
    [delivery] = job.queue.receive(1, 30.0, 5.0)
    assert (delivery.attempts, delivery.lost) == (0, 0)


def test_a_handler_that_breaks_the_contract_ends_the_worker_with_64_and_the_reason(make_job: MakeJob) -> None:
    job = make_job(spec("class Handler:\n    def handle(self): ...\n"))
    pod = job.pod(0)
    assert pod.fetch().wait().code == 0
    ended = pod.worker().wait()
    assert ended.code == 64
    assert job.halt[0] == "HandlerInvalid"
    assert ended.word == job.halt[1]


def test_a_queue_that_is_gone_ends_the_worker_with_1(make_job: MakeJob) -> None:
    job = make_job(spec(SLOW, seconds=1.0))
    pod = job.pod(0)
    assert pod.fetch().wait().code == 0
    worker = pod.worker()
    wait_until((pod.mnt / "project" / "started-0").exists, "the first batch")
    job.queue.delete(job.url)
    ended = worker.wait()
    assert ended.code == 1
    assert "queue" in ended.word
    assert pod.worker().wait().code == 1


def test_a_worker_waits_for_a_server_that_is_away_and_then_finishes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = NatsServer(tmp_path_factory.mktemp("own-nats"))
    job = Job(tmp_path, server, spec(SLOW, seconds=0.3, items=12))
    try:
        pod, late = job.pod(0), job.pod(1)
        assert pod.fetch().wait().code == 0
        worker = pod.worker()
        wait_until((pod.mnt / "project" / "started-1").exists, "the second batch")
        server.kill()
        fetch = late.fetch()
        wait_until(lambda: "the queue does not answer" in fetch.out, "a fetch that waits")
        server.start()
        assert fetch.wait().code == 0
        assert late.worker().wait().code == 0
        assert worker.wait().code == 0
        counts = job.state.counts
        assert (counts.published, counts.succeeded) == (12, 12)
    finally:
        job.close()
        server.close()


def test_an_invalid_handler_is_told_once_the_queue_is_back(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = NatsServer(tmp_path_factory.mktemp("own-nats"))
    job = Job(tmp_path, server, spec("class Handler: ...\n"))
    try:
        pod = job.pod(0)
        assert pod.fetch().wait().code == 0
        server.kill()
        worker = pod.worker()
        wait_until(lambda: "waiting for the queue" in worker.out, "a worker that waits")
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(2.0)
        server.start()
        assert worker.wait().code == 64
        assert job.halt[0] == "HandlerInvalid"
    finally:
        job.close()
        server.close()


def test_the_first_worker_closes_the_output_of_a_halted_job(make_job: MakeJob, tmp_path: Path) -> None:
    source = """
        class Handler:
            def __init__(self, config): pass
            def handle_batch(self, payload):
                if payload[0] == 2:
                    raise ValueError("a bad item")
                return payload
    """
    volume = tmp_path / "volume"
    job = make_job(
        spec(
            source,
            output={"path": str(volume / "out")},
            errorThreshold={"batches": 0},
            retry={"maxAttempts": 1},
            pod={"volumeMounts": [{"name": "data", "mountPath": str(volume)}]},
        )
    )
    pod = job.pod(0)
    assert pod.fetch().wait().code == 0
    assert pod.worker().wait().code == 0
    assert job.halt[0] == "ErrorThresholdExceeded"
    told = json.loads((volume / "out" / "manifest.json").read_text())
    assert (told["state"], told["batches"]["failed"]) == ("Failed", 1)
    assert told["parts"]["count"] == len(results(volume / "out"))
    [error] = (volume / "out" / "errors.jsonl").read_text().splitlines()
    assert json.loads(error)["items"] == [2]


def test_the_first_worker_closes_the_output_of_a_job_that_it_refuses_itself(
    make_job: MakeJob, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    mounts = {"volumeMounts": [{"name": "data", "mountPath": str(volume)}]}
    job = make_job(spec("class Handler: ...\n", output={"path": str(volume / "out")}, pod=mounts))
    pod = job.pod(0)
    assert pod.fetch().wait().code == 0
    assert pod.worker().wait().code == 64
    assert job.halt[0] == "HandlerInvalid"
    told = json.loads((volume / "out" / "manifest.json").read_text())
    assert (told["state"], told["batches"]["succeeded"]) == ("Failed", 0)


def test_no_worker_closes_an_output_that_is_another_jobs(make_job: MakeJob, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    mounts = {"volumeMounts": [{"name": "data", "mountPath": str(volume)}]}
    other = make_job(spec(SLOW, output={"path": str(volume / "out")}, pod=mounts), name="other")
    pod = other.pod(0)
    assert pod.fetch().wait().code == 0
    assert pod.worker().wait().code == 0
    before = (volume / "out" / "manifest.json").read_bytes()

    job = make_job(spec(SLOW, output={"path": str(volume / "out")}, pod=mounts))
    pod = job.pod(0)
    assert pod.fetch().wait().code == 64
    assert pod.fetch().wait().code == 0  # the job is over by now
    assert pod.worker().wait().code == 0
    assert (volume / "out" / "manifest.json").read_bytes() == before
