"""`batchyard run` with its results in a bucket: the same job, stopped, resumed, run anew, read back."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from batchyard.storage.door import open_folder
from batchyard.storage.port import StoreOptions
from s3_server import READER, S3Server
from worker_harness import wait_until

COMMAND = [sys.executable, "-m", "batchyard.cli.main"]
HANDLER = """
    import time
    class Handler:
        def __init__(self, config):
            self.seconds = config.get("seconds", 0)
        def handle_batch(self, payload):
            time.sleep(self.seconds)
            return [{"n": n, "square": n * n} for n in payload]
"""


class BucketJob:
    """A manifest in `folder` whose results go to `url`."""

    def __init__(self, folder: Path, s3: S3Server, url: str, name: str = "squares") -> None:
        self.folder, self.url, self.name = folder, url, name
        self.options = StoreOptions(endpoint=s3.endpoint)
        folder.mkdir(exist_ok=True)
        (folder / "handler.py").write_text(dedent(HANDLER))
        self.write(30)

    def write(self, count: int, seconds: float = 0) -> None:
        manifest = {
            "apiVersion": "batchyard.dev/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": self.name},
            "spec": {
                "handler": {"type": "python", "path": "handler.py", "config": {"seconds": seconds}},
                "input": {"items": list(range(count)), "batchSize": 1},
                "output": {"path": self.url},
                "storage": {"endpoint": self.options.endpoint},
            },
        }
        (self.folder / "batchjob.yaml").write_text(yaml.safe_dump(manifest))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [*COMMAND, "run", "batchjob.yaml", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.command("run", "batchjob.yaml", *arguments)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=120)

    def names(self) -> list[str]:
        return sorted(stored.name for stored in open_folder(self.url, self.options).list())

    def results(self) -> list[Any]:
        ran = self.command("results", self.name)
        assert ran.returncode == 0, ran.stderr
        return [json.loads(line)["result"]["n"] for line in ran.stdout.splitlines()]


@pytest.fixture
def bucket_job(tmp_path: Path, s3: S3Server, new_prefix: Callable[[], str]) -> BucketJob:
    return BucketJob(tmp_path / "project", s3, new_prefix())


def test_a_job_runs_to_its_end_and_is_read_back_by_name_url_and_manifest(bucket_job: BucketJob, tmp_path: Path):
    ran = bucket_job.run()
    assert ran.returncode == 0, ran.stderr
    assert f"results   {bucket_job.url}" in ran.stdout
    assert bucket_job.results() == list(range(30))
    by_url = bucket_job.command("results", bucket_job.url, "--endpoint", str(bucket_job.options.endpoint))
    assert by_url.stdout == bucket_job.command("results", "batchjob.yaml").stdout
    csv = bucket_job.command("results", "squares", "--format", "csv").stdout.splitlines()
    assert csv[:3] == ["position,n,square", "0,0,0", "1,1,1"]
    assert len(csv) == 31


def test_a_run_anew_replaces_the_results_of_the_one_before(bucket_job: BucketJob):
    assert bucket_job.run().returncode == 0
    bucket_job.write(3)
    assert bucket_job.run().returncode == 0
    assert bucket_job.results() == [0, 1, 2]
    assert bucket_job.names() == [
        ".batchyard.json",
        "manifest.json",
        *(f"parts/000000/part-00000000{n}.jsonl" for n in range(3)),
    ]


def test_another_project_is_refused_there(bucket_job: BucketJob, tmp_path: Path, s3: S3Server):
    assert bucket_job.run().returncode == 0
    other = BucketJob(tmp_path / "other", s3, bucket_job.url)
    ran = other.run()
    assert ran.returncode == 2
    assert f"{bucket_job.url} holds the results of another job, squares" in ran.stderr
    assert bucket_job.results() == list(range(30))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on_with_every_result_there(bucket_job: BucketJob, how: signal.Signals):
    bucket_job.write(40, seconds=0.1)
    process = bucket_job.start()
    wait_until(lambda: len(bucket_job.names()) > 8, "some results")
    process.send_signal(how)
    process.communicate(timeout=60)
    before = [name for name in bucket_job.names() if name.startswith("parts/")]
    assert 0 < len(before) < 40
    assert "manifest.json" not in bucket_job.names()
    ran = bucket_job.run("--resume", "--set", "handler.config.seconds=0")
    assert ran.returncode == 0, ran.stderr
    assert bucket_job.results() == list(range(40))


def test_a_bucket_that_cannot_be_written_is_told_before_anything_starts(
    bucket_job: BucketJob, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    for arguments in (["--dry-run"], []):
        ran = bucket_job.run(*arguments)
        assert ran.returncode == 2
        assert "output.path: results cannot be written: s3://data/" in ran.stderr
        assert "lack s3:PutObject" in ran.stderr
