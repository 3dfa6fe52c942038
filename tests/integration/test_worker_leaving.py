"""How a worker leaves: the job is over or halted, SIGTERM, a threshold, a queue that is gone."""

import os
import signal
import subprocess
import sys

import pytest
from batchyard.queue.port import Completion
from worker_harness import is_running, wait_until

HANDLER = """
import os, time

def note(text):
    with open("notes", "a") as file:
        file.write(f"{text}\\n")

class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload):
        note(f"start {payload[0]}")
        if payload[0] == "raise":
            raise ValueError("no")
        if payload[0] == "wait":
            while "go" not in os.listdir(): time.sleep(0.01)
        if payload[0] == "hang":
            time.sleep(3600)
        note(f"end {payload[0]}")
    def on_job_complete(self):
        note("complete")
"""


def let_go(job):
    (job.folder / "project" / "go").touch()


def test_sigterm_lets_running_batches_finish_and_gives_the_rest_back(make_job):
    job = make_job(HANDLER, [["wait"], *([[f"batch {i}"] for i in range(20)])])
    worker = job.start()
    job.wait_for_line("notes", "start wait")
    worker.terminate()
    wait_until(lambda: any("stopping" in line["message"] for line in worker.log()), "the worker to stop")
    let_go(job)
    ended = worker.wait()
    assert ended.code == 143
    counts = job.state.counts
    assert (counts.running, counts.failed) == (0, 0)
    assert counts.succeeded == sum(line.startswith("end") for line in job.lines("notes"))
    assert counts.succeeded >= 1
    assert job.run("worker-1").code == 0
    assert job.state.counts.succeeded == 21
    ends = [line for line in job.lines("notes") if line.startswith("end")]
    assert len(ends) == len(set(ends)) == 21
    assert job.lines("notes").count("complete") == 1


def test_what_sigterm_gives_back_has_lost_no_attempt(make_job):
    job = make_job(HANDLER, [["hang"]], drain=0.2)
    worker = job.start()
    job.wait_for_line("notes", "start hang")
    worker.terminate()
    assert worker.wait().code == 143
    (delivery,) = job.queue.receive(1, 30, 0)
    assert (delivery.attempts, delivery.lost) == (0, 0)


def test_sigterm_before_the_handler_stands_ends_the_worker(make_job):
    job = make_job("import time\ntime.sleep(3600)\n", [[1]])
    worker = job.start()
    wait_until(worker.handler_pids, "the handler process")
    (handler,) = worker.handler_pids()
    worker.terminate()
    assert worker.wait().code == 143
    assert not is_running(handler)
    assert job.state.counts.pending == 1


def test_a_halt_from_elsewhere_lets_the_worker_go(make_job):
    job = make_job(HANDLER, [["wait"], *([["fine"]] * 20)])
    worker = job.start()
    job.wait_for_line("notes", "start wait")
    job.queue.halt("Cancelled", "the user said so")
    let_go(job)
    assert worker.wait().code == 0
    counts = job.state.counts
    assert (counts.running, counts.failed) == (0, 0)
    assert counts.succeeded == sum(line.startswith("end") for line in job.lines("notes"))
    assert "complete" not in job.lines("notes")


def test_a_halted_job_kills_what_does_not_end_and_resumes_without_a_lost_attempt(make_job):
    job = make_job(HANDLER, [["wait"], ["fine"]], retry={"max_attempts": 1})
    worker = job.start()
    job.wait_for_line("notes", "start wait")
    job.queue.halt("Cancelled", "the user said so")
    assert worker.wait().code == 0
    job.queue.resume()
    let_go(job)
    assert job.run("worker-1").code == 0
    assert job.state.counts.succeeded == 2


def test_a_worker_that_comes_to_a_halted_job_leaves(make_job):
    job = make_job(HANDLER, [["fine"]])
    job.queue.halt("Cancelled", "earlier")
    assert job.run().code == 0
    assert job.lines("notes") == []


def test_a_worker_that_comes_to_a_job_that_is_over_leaves(make_job):
    job = make_job(HANDLER, [["fine"]])
    assert job.run().code == 0
    assert job.run("worker-1").code == 0
    assert job.lines("notes").count("complete") == 1


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        pytest.param({"batches": 2}, "3 batches failed, errorThreshold allows 2", id="batches"),
        pytest.param({"percent": 10.0}, "errorThreshold allows 10 %", id="percent"),
    ],
)
def test_more_failed_batches_than_the_threshold_halt_the_job(make_job, threshold, words):
    batches = [["raise"]] * 3 + [["wait"]] + [["fine"]] * 21
    job = make_job(HANDLER, batches, threshold=threshold, retry={"max_attempts": 1})
    worker = job.start()
    wait_until(lambda: job.state.halt is not None, "the halt")
    let_go(job)
    assert worker.wait().code == 0
    state = job.state
    assert state.halt is not None
    assert state.halt.reason == "ErrorThresholdExceeded"
    assert words in state.halt.message
    assert state.completion is Completion.WAITING
    assert state.counts.failed == 3


@pytest.mark.parametrize(
    "threshold", [pytest.param({"batches": 2}, id="batches"), pytest.param({"percent": 50.0}, id="percent")]
)
def test_as_many_failed_batches_as_the_threshold_allows_do_not(make_job, threshold):
    job = make_job(HANDLER, [["raise"]] * 2 + [["fine"]] * 2, threshold=threshold, retry={"max_attempts": 1})
    assert job.run().code == 0
    assert job.state.halt is None
    assert (job.state.counts.succeeded, job.state.counts.failed) == (2, 2)


def test_percent_waits_for_the_total(make_job):
    """Half of what is known so far failed, but a tenth of the whole is allowed to."""
    job = make_job(
        HANDLER,
        [["raise"]] + [["fine"]] * 3,
        sealed=False,
        threshold={"percent": 10.0},
        retry={"max_attempts": 1},
    )
    worker = job.start()
    wait_until(lambda: job.state.counts.settled == 2, "the half that is given out before the seal")
    assert job.state.halt is None
    job.publish([["fine"]] * 16)
    job.seal()
    assert worker.wait().code == 0
    assert job.state.halt is None
    assert (job.state.counts.succeeded, job.state.counts.failed) == (19, 1)


def test_a_worker_whose_queue_is_deleted_ends_as_failed(make_job):
    job = make_job(HANDLER, [["hang"]] + [["fine"]] * 5)
    worker = job.start()
    job.wait_for_line("notes", "start hang")
    (handler,) = worker.handler_pids()
    for suffix in ("", "-wal", "-shm"):
        (job.folder / f"queue.db{suffix}").unlink(missing_ok=True)
    ended = worker.wait()
    assert ended.code == 1
    assert any("there is no such file" in message for message in ended.messages(level="ERROR"))
    assert not is_running(handler)


def test_a_worker_without_a_queue_ends_as_failed(make_job):
    job = make_job(HANDLER)
    ended = job.run(queue=f"sqlite:{job.folder}/nowhere.db")
    assert ended.code == 1
    assert any("there is no such file" in message for message in ended.messages(level="ERROR"))


def test_handler_processes_go_with_a_killed_worker_even_while_they_hold_the_gil(make_job):
    source = """
    import itertools
    class Handler:
        def __init__(self, config): pass
        def handle_batch(self, payload):
            open("busy", "w").close()
            sum(itertools.repeat(0))
    """
    job = make_job(source, [[1]])
    worker = job.start()
    wait_until((job.folder / "project" / "busy").exists, "the batch")
    (handler,) = worker.handler_pids()
    os.kill(worker.pid, signal.SIGKILL)
    worker.process.wait()
    wait_until(lambda: not is_running(handler), "the handler process to go")


def test_a_worker_whose_log_nobody_reads_any_more_finishes_its_job(make_job):
    job = make_job(HANDLER, [["fine"]] * 50)
    settings = job.settings_file("worker-0")
    command = [sys.executable, "-m", "batchyard.worker", str(settings)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert worker.stdout is not None
    worker.stdout.close()
    assert worker.wait(60) == 0
    assert job.state.counts.succeeded == 50
