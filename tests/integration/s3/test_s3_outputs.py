"""Results in a bucket: parts, what closes them, whose they are, and what a store that fails does to a job."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from batchyard.output.begin import begin_output, check_output
from batchyard.output.owner import Owner
from batchyard.output.parts import OutputInvalid, OutputUnavailable, Parts
from batchyard.output.read import read_results
from batchyard.storage.door import open_folder
from batchyard.storage.port import Storage, StoreOptions
from s3_server import BUCKET, READER, WRITER, S3Server, SpoilingProxy
from worker_harness import WorkerJob, children_of, wait_until

ECHO = """
    class Handler:
        def __init__(self, config): pass
        def handle_batch(self, payload):
            if payload == ["bad"]:
                raise ValueError("no")
            return payload
"""
NewPrefix = Callable[[], str]
MakeJob = Callable[..., WorkerJob]


def store(endpoint: str) -> dict[str, Any]:
    return {"endpoint": endpoint}


def opened(s3: S3Server, url: str) -> Storage:
    return open_folder(url, StoreOptions(endpoint=s3.endpoint))


def parts_at(s3: S3Server, url: str, **more: Any) -> Parts:
    return Parts(url, StoreOptions(endpoint=more.pop("endpoint", s3.endpoint), **more))


def owner_of(url: str, job: str = "digits", run: str = "run-1") -> Owner:
    return Owner(job=job, jobId=run, home=f"team/{job}", path=url)


def results(s3: S3Server, url: str) -> list[Any]:
    return [line["result"] for line in read_results(url, StoreOptions(endpoint=s3.endpoint))]


def names(storage: Storage) -> list[str]:
    return sorted(stored.name for stored in storage.list())


@pytest.fixture
def proxied(s3: S3Server) -> Iterator[Callable[..., SpoilingProxy]]:
    """A function that puts a proxy before the server."""
    made: list[SpoilingProxy] = []

    def make(spoil: Callable[[int, str, str], Any]) -> SpoilingProxy:
        made.append(SpoilingProxy(s3.port, spoil))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def test_a_job_leaves_parts_errors_and_manifest_in_its_prefix(s3: S3Server, make_job: MakeJob, new_prefix: NewPrefix):
    url = new_prefix()
    batches = [[number] for number in range(1003)]
    batches[7] = ["bad"]
    job = make_job(ECHO, batches, output={"path": url}, storage=store(s3.endpoint), retry={"max_attempts": 1})
    assert job.run().code == 0
    assert results(s3, url) == [number for number in range(1003) if number != 7]
    storage = opened(s3, url)
    manifest = json.loads(b"".join(storage.chunks("manifest.json")))
    assert manifest["batches"] == {"total": 1003, "succeeded": 1002, "failed": 1}
    assert manifest["parts"]["count"] == 1002
    (error,) = b"".join(storage.chunks("errors.jsonl")).splitlines()
    assert json.loads(error)["items"] == ["bad"]
    assert {name.split("/")[0] for name in names(storage)} == {"parts", "errors.jsonl", "manifest.json"}
    assert "parts/000001/part-000001002.jsonl" in names(storage)


def test_no_handler_process_has_the_client(s3: S3Server, make_job: MakeJob, new_prefix: NewPrefix):
    source = ECHO.replace("return payload", "import sys; return [[m for m in sys.modules if 'botocore' in m]]")
    url = new_prefix()
    job = make_job(source, [[1], [2]], output={"path": url}, storage=store(s3.endpoint))
    assert job.run().code == 0
    assert results(s3, url) == [[], []]


def test_a_part_of_many_megabytes_is_whole(s3: S3Server, make_job: MakeJob, new_prefix: NewPrefix):
    source = ECHO.replace("return payload", "return ['x' * (45 << 20)]")
    url = new_prefix()
    assert make_job(source, [[1]], output={"path": url}, storage=store(s3.endpoint)).run().code == 0
    (text,) = results(s3, url)
    assert len(text) == 45 << 20
    assert not s3.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_a_batch_that_ran_twice_leaves_one_part_the_later_one(s3: S3Server, new_prefix: NewPrefix):
    url = new_prefix()
    parts = parts_at(s3, url)
    parts.write(3, b'{"position": 3, "result": "old and longer"}\n')
    parts.write(3, b'{"position": 3, "result": "new"}\n')
    assert results(s3, url) == ["new"]
    parts.write(3, b"")
    assert results(s3, url) == []


def test_a_fresh_run_clears_two_thousand_parts_with_few_requests_and_nothing_else(
    s3: S3Server, new_prefix: NewPrefix, proxied
):
    url = new_prefix()
    s3.fill(f"{url.removeprefix(f's3://{BUCKET}/')}/parts", 2000)  # names that are not ours
    parts = parts_at(s3, url)
    begin_output(parts, owner_of(url), None, fresh=True)
    for index in range(0, 2000, 100):
        parts.write(index, b"1\n")
    parts.put("manifest.json", [b"{}"])
    proxy = proxied(lambda number, method, path: None)
    again = parts_at(s3, url, endpoint=proxy.endpoint)
    begin_output(again, owner_of(url, run="run-2"), None, fresh=True)
    assert not list(parts.written())
    left = names(opened(s3, url))
    assert left[0] == ".batchyard.json"
    assert len(left) == 2001
    assert len(proxy.requests) < 25


def test_another_jobs_prefix_is_refused_and_stays(s3: S3Server, new_prefix: NewPrefix):
    url = new_prefix()
    begin_output(parts_at(s3, url), owner_of(url), None, fresh=True)
    parts_at(s3, url).write(0, b"1\n")
    with pytest.raises(OutputInvalid, match=r"s3://.* holds the results of another job, digits"):
        begin_output(parts_at(s3, url), owner_of(url, job="letters"), None, fresh=True)
    with pytest.raises(OutputInvalid, match="another job"):
        check_output(parts_at(s3, url), owner_of(url, job="letters"), None)
    assert names(opened(s3, url)) == [".batchyard.json", "parts/000000/part-000000000.jsonl"]


@pytest.mark.parametrize("code", ["501 NotImplemented", None], ids=["a store without conditions", "with"])
def test_of_several_jobs_that_claim_a_prefix_one_gets_it(
    s3: S3Server, new_prefix: NewPrefix, proxied, code: str | None
):
    """Where the store knows no conditions they come one after another: at the same moment they aren't told apart."""
    refused: list[str] = []

    def spoil(number: int, method: str, path: str) -> str | None:
        conditional = proxy.headers[number - 1].get("If-None-Match")
        return code if conditional else None

    proxy = proxied(spoil)
    url = new_prefix()

    def claim(job: str) -> None:
        try:
            begin_output(parts_at(s3, url, endpoint=proxy.endpoint), owner_of(url, job=job), None, fresh=True)
        except OutputInvalid as error:
            refused.append(str(error))

    threads = [threading.Thread(target=claim, args=(f"job-{at}",)) for at in range(4)]
    for thread in threads:
        thread.start()
        if code:
            thread.join()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert all("the results of another job" in text for text in refused)


@pytest.mark.parametrize(
    ("keys", "path", "told"),
    [
        pytest.param(
            READER, f"s3://{BUCKET}/x", r"s3://data/x.* lack s3:PutObject there", id="a role that only reads"
        ),
        pytest.param(
            WRITER, "s3://no-such-bucket/x", r"s3://no-such-bucket.*(no such bucket|access is denied)", id="no bucket"
        ),
        pytest.param(("NOBODY", "secret"), f"s3://{BUCKET}/x", "does not accept the access key", id="no such user"),
    ],
)
def test_a_prefix_that_cannot_be_written_is_refused_before_any_batch(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str], path: str, told: str
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])
    with pytest.raises(OutputInvalid, match=f"^output.path: results cannot be written: .*{told}"):
        check_output(parts_at(s3, path), owner_of(path), None)


def test_a_store_that_is_away_is_not_the_users_mistake(s3: S3Server, new_prefix: NewPrefix, proxied):
    proxy = proxied(lambda number, method, path: "503 SlowDown")
    with pytest.raises(OutputUnavailable, match="the store is throttling requests"):
        check_output(parts_at(s3, new_prefix(), endpoint=proxy.endpoint, attempts=2), owner_of("x"), None)


def test_a_role_that_may_not_list_unfinished_uploads_can_run_a_job(s3: S3Server, new_prefix: NewPrefix, proxied):
    proxy = proxied(lambda number, method, path: "403 AccessDenied" if "uploads" in path else None)
    url = new_prefix()
    parts = parts_at(s3, url, endpoint=proxy.endpoint)
    begin_output(parts, owner_of(url), None, fresh=True)
    assert any("uploads" in path for _, path in proxy.requests)
    parts.write(0, b'{"position": 0, "result": 1}\n')
    assert results(s3, url) == [1]


def test_what_killed_uploads_left_goes_before_a_run(s3: S3Server, new_prefix: NewPrefix):
    url = new_prefix()
    client, key = s3.client(), f"{url.removeprefix(f's3://{BUCKET}/')}/parts/000000/part-000000000.jsonl"
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    begin_output(parts_at(s3, url), owner_of(url), None, fresh=True)
    assert not client.list_multipart_uploads(Bucket=BUCKET, Prefix=key).get("Uploads")


# --- a store that fails while a job runs ---


def test_every_third_request_throttled_costs_no_batch(
    s3: S3Server, make_job: MakeJob, new_prefix: NewPrefix, proxied
):
    proxy = proxied(lambda number, method, path: "503 SlowDown" if number % 3 == 0 else None)
    url = new_prefix()
    job = make_job(ECHO, [[number] for number in range(300)], output={"path": url}, storage=store(proxy.endpoint))
    assert job.run().code == 0
    assert job.state.counts.succeeded == 300
    assert results(s3, url) == list(range(300))


def test_a_store_that_refuses_every_put_stops_the_job_and_settles_nothing(
    s3: S3Server, make_job: MakeJob, new_prefix: NewPrefix, proxied
):
    proxy = proxied(lambda number, method, path: "403 AccessDenied" if method == "PUT" else None)
    job = make_job(ECHO, [[1], [2]], output={"path": new_prefix()}, storage=store(proxy.endpoint))
    job.run()
    halt, counts = job.state.halt, job.state.counts
    assert halt is not None
    assert halt.reason == "OutputUnavailable"
    assert "lack s3:PutObject" in halt.message
    assert (counts.succeeded, counts.failed, counts.running) == (0, 0, 0)


def test_no_credentials_stop_the_job_at_once(
    make_job: MakeJob, new_prefix: NewPrefix, s3: S3Server, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    job = make_job(ECHO, [[1]], output={"path": new_prefix()}, storage=store(s3.endpoint))
    job.run()
    halt = job.state.halt
    assert halt is not None
    assert "no AWS credentials are found" in halt.message


@pytest.mark.timeout(240)
def test_a_job_outlives_its_stores_sigkill_and_restart_with_every_result_there(
    s3: S3Server, make_job: MakeJob, new_prefix: NewPrefix
):
    url = new_prefix()
    source = ECHO.replace("return payload", "import time; time.sleep(0.02); return payload")
    job = make_job(source, [[number] for number in range(300)], output={"path": url}, storage=store(s3.endpoint))
    worker = job.start()
    wait_until(lambda: job.state.counts.succeeded > 50, "some results")
    s3.kill()
    settled = job.state.counts.succeeded
    s3.start()
    assert worker.wait(180).code == 0
    assert job.state.counts.succeeded == 300 > settled
    assert results(s3, url) == list(range(300))


@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="children are found by /proc: run on Linux")
def test_however_often_workers_are_killed_every_settled_batch_has_its_part(
    s3: S3Server, make_job: MakeJob, new_prefix: NewPrefix
):
    url = new_prefix()
    source = ECHO.replace("return payload", "import time; time.sleep(0.01); return payload")
    job = make_job(
        source, [[number] for number in range(400)], output={"path": url}, storage=store(s3.endpoint), lease=1.0
    )
    storage = opened(s3, url)
    for kill in range(6):
        before = job.state.counts.settled
        worker = job.start(f"worker-{kill}")
        wait_until(lambda before=before: job.state.counts.settled > before + 20, "progress")
        for pid in children_of(worker.pid):
            os.kill(pid, signal.SIGKILL)
        worker.kill()
        counts = job.state.counts
        assert len(names(storage)) >= counts.succeeded
    assert job.run("worker-last").code == 0
    assert job.state.counts.succeeded + job.state.counts.failed == 400
    assert len(results(s3, url)) == job.state.counts.succeeded
