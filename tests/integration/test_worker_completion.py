"""`on_job_complete`: once, after every batch is settled, in one process of one worker."""

import os
import signal

from batchyard.queue.port import Completion, Failure
from worker_harness import wait_until

HANDLER = """
import ctypes, os, time

def note(text):
    with open("notes", "a") as file:
        file.write(f"{text}\\n")

class Handler:
    def __init__(self, config):
        self.mode = config.get("mode", "fine")
    def handle_batch(self, payload):
        if payload[0] == "raise": raise ValueError("no")
        note("batch")
    def on_job_complete(self):
        note("complete")
        print("closing the books")
        tries = open("notes").read().splitlines().count("complete")
        if self.mode == "raise" or self.mode == "raise once" and tries == 1: raise RuntimeError("no room")
        if self.mode == "crash" or self.mode == "crash once" and tries == 1: ctypes.string_at(0)
        if self.mode == "hang once" and tries == 1: time.sleep(3600)
        if self.mode == "slow": time.sleep(2.5)
"""


def test_one_of_several_workers_runs_it_once_after_all_batches(make_job):
    job = make_job(HANDLER, [["fine"] if i % 10 else ["raise"] for i in range(200)], retry={"max_attempts": 1})
    workers = [job.start(f"worker-{i}", processes=2) for i in range(3)]
    assert [worker.wait().code for worker in workers] == [0, 0, 0]
    assert job.lines("notes") == ["batch"] * 180 + ["complete"]
    assert job.state.completion is Completion.SUCCEEDED
    assert job.state.counts.failed == 20


def test_it_runs_although_every_batch_failed(make_job):
    job = make_job(HANDLER, [["raise"]] * 3, retry={"max_attempts": 1})
    assert job.run().code == 0
    assert job.lines("notes") == ["complete"]


def test_it_runs_for_a_job_without_batches(make_job):
    job = make_job(HANDLER)
    assert job.run().code == 0
    assert job.lines("notes") == ["complete"]


def test_it_does_not_run_before_the_queue_is_sealed(make_job):
    job = make_job(HANDLER, [["fine"]] * 2, sealed=False)
    worker = job.start()
    wait_until(lambda: job.state.counts.succeeded == 1, "the half that is given out before the seal")
    assert "complete" not in job.lines("notes")
    job.seal()
    assert worker.wait().code == 0
    assert job.lines("notes") == ["batch", "batch", "complete"]


def test_one_that_raises_is_tried_again(make_job):
    job = make_job(HANDLER, [["fine"]], handler={"config": {"mode": "raise once"}})
    assert job.run().code == 0
    assert job.lines("notes") == ["batch", "complete", "complete"]
    assert job.state.completion is Completion.SUCCEEDED


def test_one_that_raises_for_good_is_kept_with_its_error_and_the_counts_stay(make_job):
    job = make_job(HANDLER, [["fine"]] * 4, handler={"config": {"mode": "raise"}}, retry={"max_attempts": 2})
    assert job.run().code == 0
    state = job.state
    assert state.completion is Completion.FAILED
    assert state.completion_failure is not None
    assert state.completion_failure.error == "RuntimeError: no room"
    assert "in on_job_complete" in state.completion_failure.detail
    assert job.lines("notes").count("complete") == 2
    assert (state.counts.succeeded, state.counts.failed) == (4, 0)


def test_one_that_crashes_is_tried_again(make_job):
    job = make_job(HANDLER, [["fine"]], handler={"config": {"mode": "crash once"}})
    assert job.run().code == 0
    assert job.lines("notes").count("complete") == 2
    assert job.state.completion is Completion.SUCCEEDED


def test_one_that_crashes_for_good_says_so(make_job):
    job = make_job(HANDLER, [["fine"]], handler={"config": {"mode": "crash"}}, retry={"max_attempts": 2})
    assert job.run().code == 0
    failure = job.state.completion_failure
    assert failure is not None
    assert failure.reason == "ProcessDied"
    assert "SIGSEGV" in failure.error
    assert "on_job_complete" in failure.error


def test_batch_timeout_does_not_bound_it_and_its_lease_is_extended(make_job):
    job = make_job(HANDLER, [["fine"]], handler={"config": {"mode": "slow"}}, batch_timeout=1.0, lease=1.0)
    workers = [job.start(f"worker-{i}") for i in range(2)]
    assert [worker.wait().code for worker in workers] == [0, 0]
    assert job.lines("notes").count("complete") == 1


def test_another_worker_runs_it_when_its_holder_is_killed(make_job):
    job = make_job(HANDLER, [["fine"]], handler={"config": {"mode": "hang once"}}, lease=1.0)
    first = job.start("worker-0")
    job.wait_for_line("notes", "complete")
    second = job.start("worker-1")
    os.kill(first.pid, signal.SIGKILL)
    assert second.wait().code == 0
    assert job.lines("notes").count("complete") == 2
    assert job.state.completion is Completion.SUCCEEDED


def test_its_lines_carry_its_mark(make_job):
    job = make_job(HANDLER, [["fine"]])
    (line,) = [line for line in job.run().log if line["message"] == "closing the books"]
    assert (line["batch"], line["attempt"]) == (-1, 1)


def test_a_handler_without_it_completes_the_job(make_job):
    job = make_job(HANDLER.replace("on_job_complete", "another_method"), [["fine"]])
    assert job.run().code == 0
    assert job.state.completion is Completion.SUCCEEDED


def test_one_whose_attempts_are_used_up_on_record_is_not_run_again(make_job):
    job = make_job(HANDLER, retry={"max_attempts": 1})
    token = job.queue.receive_completion(30)
    assert job.queue.retry(token, 0, Failure("HandlerError", "RuntimeError: no room"))
    assert job.run().code == 0
    assert job.lines("notes") == []
    assert job.state.completion_failure.error == "RuntimeError: no room"
