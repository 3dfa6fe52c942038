"""Results of a whole run: where they are, what closes them, and that an interruption leaves no wrong word behind."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batchyard.output.read import read_results

RESULTS = {"path": "results"}


def manifest_of(job):
    return json.loads((job.folder / "results" / "manifest.json").read_text())


def results_of(job):
    parts = sorted((job.folder / "results" / "parts").rglob("*.jsonl"))
    return [json.loads(line)["result"] for part in parts for line in part.read_text().splitlines()]


def test_results_errors_and_manifest_are_where_the_summary_says(job):
    job.write(output=RESULTS, handler={"type": "python", "path": "handler.py", "config": {"bad": [3]}})
    ran = job.run()
    assert ran.code == 3
    assert f"results   {job.folder / 'results'}" in ran.out
    assert f"{job.folder / 'results' / 'errors.jsonl'}" in ran.out
    assert results_of(job) == [0, 1, 2, 4]
    errors = (job.folder / "results" / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["batch"] for line in errors] == [3]
    assert manifest_of(job)["batches"] == {"total": 5, "succeeded": 4, "failed": 1}
    assert manifest_of(job)["state"] == "CompletedWithFailures"


def test_a_stopped_job_closes_its_output_too_and_a_resumed_one_closes_it_anew(job):
    handler = {"type": "python", "path": "handler.py", "config": {"bad": [2]}}
    job.write(output=RESULTS, handler=handler, errorThreshold={"batches": 0}, retry={"maxAttempts": 1})
    assert job.run_json()["reason"] == "ErrorThresholdExceeded"
    assert manifest_of(job)["state"] == "Failed"
    assert (job.folder / "results" / "errors.jsonl").exists()
    assert job.run_json("--resume", "--set", "errorThreshold.batches=1")["state"] == "CompletedWithFailures"
    assert manifest_of(job)["state"] == "CompletedWithFailures"
    assert results_of(job) == [0, 1, 3, 4]


def test_an_interrupted_job_has_parts_and_no_manifest(job, until, finish):
    job.write(output=RESULTS, handler={"type": "python", "path": "handler.py", "config": {"seconds": 0.4}})
    process = job.start()
    until(lambda: job.lines("finished"), process)
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    assert len(results_of(job)) == job.state().counts.succeeded
    assert not (job.folder / "results" / "manifest.json").exists()
    assert job.run("--resume").code == 0
    assert results_of(job) == [0, 1, 2, 3, 4]
    assert manifest_of(job)["batches"]["succeeded"] == 5


def test_a_new_run_clears_the_results_of_the_one_before_and_nothing_else(job):
    job.write(output=RESULTS).run()
    (job.folder / "results" / "notes.txt").write_text("mine")
    assert job.write(output=RESULTS, input={"items": [7], "batchSize": 1}).run().code == 0
    assert results_of(job) == [7]
    assert (job.folder / "results" / "notes.txt").read_text() == "mine"


def test_output_of_the_command_line_may_hold_any_character(job):
    ran = job.write().run("--output", "mine: #1")
    assert ran.code == 0, ran.err
    assert (job.folder / "mine: #1" / "manifest.json").exists()


def test_an_output_that_is_a_file_is_refused_before_anything_runs(job):
    (job.folder / "results").write_text("")
    ran = job.write(output=RESULTS).run()
    assert ran.code == 2
    assert "results" in ran.err
    assert job.lines("started") == []


BIG = """
    class Handler:
        def __init__(self, config):
            pass
        def handle_batch(self, payload):
            return ["x" * 200_000 for _ in payload]
"""


@pytest.fixture
def small_disk(job: Any) -> Iterator[Path]:
    """The job's results folder, as a file system of 3 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounts a small tmpfs: run as root")
    disk = job.folder / "results"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounts a small tmpfs, which this machine refuses")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.root
@pytest.mark.parametrize("interrupted", [False, True], ids=["the job stops by itself", "the user stops it"])
def test_a_disk_that_fills_up_loses_nothing_and_the_job_goes_on_when_there_is_room(
    job: Any, small_disk: Path, interrupted: bool
) -> None:
    job.write(BIG, input={"items": list(range(40)), "batchSize": 2}, workers=1, output=RESULTS)
    process = job.start()
    if interrupted:
        while not list(small_disk.glob("parts/*/*")) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(1)  # into the wait for room, whenever exactly: any moment must do
        process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == (130 if interrupted else 1), err
    assert "Traceback" not in err
    if not interrupted:
        assert "OutputUnavailable" in err
        assert "the disk is full: free space there" in err
    assert job.state().counts.failed == 0
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert job.run("--resume").code == 0
    assert [line["position"] for line in read_results(small_disk)] == list(range(40))
