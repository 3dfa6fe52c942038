"""Stopping and going on: signals, kills, the lock, and what a later command may do with what it finds."""

import contextlib
import fcntl
import os
import signal
import subprocess
import termios
import time

import pytest

RECORDING = """
    class Handler:
        def __init__(self, config): pass
        def handle_batch(self, payload): open("finished", "a").write("x")
"""
SLOW = {"type": "python", "path": "handler.py", "config": {"seconds": 0.4}}
ENDLESS = {"type": "python", "path": "handler.py", "config": {"seconds": 600}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_first_signal_lets_running_batches_finish_and_resume_goes_on(job, until, finish, number):
    job.write(handler=SLOW)
    process = job.start()
    until(lambda: job.lines("finished"), process)
    process.send_signal(number)
    ran = finish(process)
    assert ran.code == 130
    assert "running batches finish" in ran.err
    assert f"go on with: batchyard run {job.manifest} --resume" in ran.out
    settled = job.lines("finished")
    assert job.lines("started") == settled, "a running batch was cut short"
    assert job.state().counts.succeeded == len(settled) < 5
    assert job.state().counts.running == 0, "what was not begun is still leased"

    told = job.run_json("--resume")
    assert told["exitCode"] == 0
    assert told["batches"]["succeeded"] == 5
    assert sorted(job.lines("started")) == ["0", "1", "2", "3", "4"], "a settled batch ran again"


@pytest.fixture
def on_terminal(job):
    """Start the job on a terminal of its own; return the process and the terminal's other end."""

    def start():
        leader, follower = os.openpty()
        process = job.start(
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(follower)
        return process, leader

    return start


def test_ctrl_c_on_a_terminal_reaches_the_runner_alone(job, until, on_terminal):
    job.write(handler=SLOW)
    process, terminal = on_terminal()
    until(lambda: job.lines("finished"), process)
    os.write(terminal, b"\x03")
    shown = b""
    with contextlib.suppress(OSError):  # raised once the other end is closed
        while chunk := os.read(terminal, 65536):
            shown += chunk
    os.close(terminal)
    assert process.wait(60) == 130
    assert job.lines("started") == job.lines("finished")
    assert "batches" in shown.decode()
    assert "Traceback" not in shown.decode()


def test_a_terminal_that_is_closed_stops_the_job_in_order(job, until, on_terminal):
    job.write(handler=SLOW)
    process, terminal = on_terminal()
    until(lambda: job.lines("finished"), process)
    os.close(terminal)
    assert process.wait(60) == 130
    assert job.lines("started") == job.lines("finished")
    assert job.run("--resume").code == 0


def test_a_job_goes_on_when_nobody_reads_its_progress(job):
    reader, writer = os.pipe()
    process = job.write().start(stdout=writer, stderr=writer)
    os.close(writer)
    os.close(reader)
    assert process.wait(60) == 0
    assert job.state().counts.succeeded == 5


def test_a_job_whose_queue_is_deleted_while_it_runs_fails(job, until, finish):
    process = job.write(handler=SLOW).start("--json")
    until(lambda: job.lines("finished"), process)
    for file in job.state_folder.glob("queue.db*"):
        file.unlink()
    ran = finish(process)
    assert (ran.code, ran.json["reason"]) == (1, "QueueLost")
    assert job.children("batchyard.") == []


def test_a_second_signal_stops_at_once(job, until, finish):
    job.write(handler=ENDLESS)
    process = job.start()
    until(lambda: job.lines("started"), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first signal is to wait for the running batch"
    process.send_signal(signal.SIGINT)
    ran = finish(process, 30)
    assert ran.code == 130
    assert job.children("batchyard.") == []

    told = job.run_json("--resume", "--set", "handler.config.seconds=0")
    assert told["exitCode"] == 0
    assert told["batches"]["succeeded"] == 5


def test_a_killed_runner_takes_its_processes_along_and_resume_goes_on(job, until, kill_hard):
    job.write(handler=SLOW, workers=2)
    process = job.start()
    until(lambda: len(job.lines("finished")) >= 2, process)
    kill_hard(process.pid)
    process.wait()
    until(lambda: not job.children("batchyard."))
    settled = job.state().counts.succeeded
    before = len(job.lines("finished"))

    told = job.run_json("--resume")
    assert told["batches"] == {"total": 5, "succeeded": 5, "failed": 0, "running": 0, "pending": 0}
    assert len(job.lines("finished")) - before == 5 - settled, "a settled batch ran again"


@pytest.mark.parametrize("after", [0.1, 0.3, 0.4, 0.5, 0.6, 0.8])
def test_a_runner_killed_at_any_moment_of_its_start_can_be_resumed(job, after, kill_hard):
    job.write()
    process = job.start()
    time.sleep(after)
    kill_hard(process.pid)
    process.wait()
    told = job.run_json("--resume")
    assert told["exitCode"] == 0, told
    assert told["batches"]["succeeded"] == 5


@pytest.mark.parametrize("kept", [(), ("queue.db",)], ids=["an empty folder", "a queue without a record"])
def test_what_a_start_that_was_cut_short_left_is_no_run(job, kept):
    job.write().run()
    for path in job.state_folder.iterdir():
        if path.is_file() and path.name not in kept:
            path.unlink()
    ran = job.run("--resume")
    assert ran.code == 0
    assert "nothing to resume: the job starts from the beginning" in ran.err


def test_a_record_whose_queue_is_gone_is_refused_and_restart_helps(job):
    job.write().run()
    (job.state_folder / "queue.db").unlink()
    ran = job.run()
    assert ran.code == 2
    assert "queue.db is missing" in ran.err
    assert job.run("--restart").code == 0


def test_a_new_run_does_not_replace_an_unfinished_one_unasked(job, until, finish):
    job.write(handler=SLOW)
    process = job.start()
    until(lambda: job.lines("finished"), process)
    process.send_signal(signal.SIGTERM)
    finish(process)
    ran = job.run()
    assert ran.code == 2
    assert "--resume" in ran.err
    assert "--restart" in ran.err
    first = (job.state_folder / "run.json").read_text()
    told = job.run_json("--restart", "--set", "handler.config.seconds=0")
    assert told["exitCode"] == 0
    assert told["jobId"] not in first
    assert told["batches"]["succeeded"] == 5


def test_an_ended_job_is_replaced_by_a_new_run_which_says_so(job):
    first = job.write().run_json()
    ran = job.run()
    assert ran.code == 0
    assert "ended as Succeeded (AllBatchesSucceeded); this run replaces it" in ran.err
    assert first["jobId"] not in (job.state_folder / "run.json").read_text()


def test_resuming_an_ended_job_tells_its_outcome_and_runs_nothing(job):
    job.write(handler={"type": "python", "path": "handler.py", "config": {"bad": [2]}})
    first = job.run_json()
    ran = job.run("--resume")
    assert ran.code == first["exitCode"] == 3
    assert "nothing to resume: this job ended as CompletedWithFailures" in ran.err
    assert "item 2 is bad" in ran.out
    assert len(job.lines("started")) == 6


def test_a_job_that_stopped_as_failed_goes_on_after_the_handler_is_mended(job):
    handler = {"type": "python", "path": "handler.py", "config": {"bad": [2, 3, 4]}}
    job.write(handler=handler, errorThreshold={"batches": 0}, retry={"maxAttempts": 1})
    assert job.run_json()["reason"] == "ErrorThresholdExceeded"
    settled = job.state().counts
    job.write(errorThreshold={"batches": 5}, retry={"maxAttempts": 1})
    ran = job.run("--resume")
    assert ran.code == 3
    assert "going on with a job that had stopped: ErrorThresholdExceeded" in ran.err
    assert job.state().counts.failed == settled.failed
    assert job.state().counts.settled == 5


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"input": {"items": [0, 1, 2, 3], "batchSize": 1}}, "spec.input.items", id="items"),
        pytest.param({"input": {"items": [0, 1, 2, 3, 4], "batchSize": 2}}, "spec.input.batchSize", id="batch size"),
        pytest.param({"output": {"path": "elsewhere"}}, "spec.output.path", id="output"),
    ],
)
def test_resume_refuses_a_manifest_whose_input_or_output_changed(job, spec, field):
    handler = {"type": "python", "path": "handler.py", "config": {"bad": [0, 1]}}
    job.write(handler=handler, errorThreshold={"batches": 0}, retry={"maxAttempts": 1}).run()
    ran = job.write(**spec).run("--resume")
    assert ran.code == 2
    assert f"{field} is not what it was when this job started" in ran.err


def test_a_job_that_stopped_at_a_malformed_line_goes_on_once_a_threshold_allows_it(job):
    lines = [f"{i}\n" for i in range(3000)]
    (job.folder / "items.jsonl").write_text("".join([*lines, "[1\n", *lines]))
    job.write(input={"delimitedFiles": {"paths": ["items.jsonl"]}, "batchSize": 100}, retry={"maxAttempts": 1})
    assert job.run_json()["reason"] == "InputInvalid"
    told = job.run_json("--resume", "--set", "errorThreshold.batches=1")
    assert (told["exitCode"], told["state"]) == (3, "CompletedWithFailures")
    assert told["items"] == 6001
    assert [failure["reason"] for failure in told["failures"]] == ["InvalidItem"]


def test_a_second_run_of_a_job_says_who_holds_it(job, until):
    job.write(handler=ENDLESS)
    process = job.start()
    until(lambda: job.lines("started"), process)
    ran = job.run("--resume")
    assert ran.code == 2
    assert f"process {process.pid}" in ran.err


def test_resume_and_restart_together_are_refused(job):
    ran = job.write().run("--resume", "--restart")
    assert ran.code == 2
    assert "--resume and --restart" in ran.err


@pytest.fixture
def read_only(job, tmp_path):
    """The job in a folder that cannot be written: by its mode, or for root, whom no mode stops, by its mount."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid() == 0:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        if mounted.returncode:
            pytest.skip("mounts a small tmpfs, which this machine refuses; run as another user than root")
    job.folder = folder
    job.write(RECORDING.replace("started", "/dev/null").replace("finished", "/dev/null"))
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    else:
        folder.chmod(0o555)
    yield job
    if os.geteuid() == 0:
        subprocess.run(["umount", folder], check=True)
    else:
        folder.chmod(0o755)


def test_a_manifest_folder_that_cannot_be_written_points_to_state_dir(read_only, tmp_path):
    ran = read_only.run()
    assert ran.code == 2
    assert "cannot write the job's folder" in ran.err
    assert "--state-dir DIR" in ran.err
    assert read_only.run("--state-dir", tmp_path / "elsewhere").code == 0
