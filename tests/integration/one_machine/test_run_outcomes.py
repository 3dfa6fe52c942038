"""How a job ends: exit code, state, reason, counts, and what is said."""

import zipfile

import pytest


def test_a_job_whose_batches_all_succeed_ends_with_0_and_says_so(job):
    ran = job.write(RECORDING_PLAIN).run()
    assert ran.code == 0, ran.err
    assert "job: Succeeded" in ran.out
    assert "5 succeeded, 0 failed, 5 in all" in ran.out
    assert job.state().counts.succeeded == 5


def test_json_prints_one_object_on_stdout_and_nothing_else(job):
    ran = job.write(RECORDING_PLAIN).run("--json")
    assert ran.code == 0
    assert ran.err == ""
    told = ran.json
    assert told["state"] == "Succeeded"
    assert told["reason"] == "AllBatchesSucceeded"
    assert told["batches"] == {"total": 5, "succeeded": 5, "failed": 0, "running": 0, "pending": 0}
    assert told["items"] == 5
    assert told["exitCode"] == 0
    assert told["resume"] is None


def test_some_failed_batches_end_with_3_and_are_told_with_their_error(job):
    job.write(handler={"type": "python", "path": "handler.py", "config": {"bad": [1, 3]}})
    ran = job.run()
    assert ran.code == 3
    assert "job: CompletedWithFailures (SomeBatchesFailed)" in ran.out
    assert "batch 3, 2 attempts: HandlerError: ValueError: item 3 is bad" in ran.out
    assert sorted(job.lines("finished")) == ["0", "2", "4"]
    assert sorted(job.lines("started")) == ["0", "1", "1", "2", "3", "3", "4"]


def test_too_many_failed_batches_end_the_job_with_1_and_how_to_go_on(job):
    job.write(
        handler={"type": "python", "path": "handler.py", "config": {"bad": [0, 1, 2, 3, 4]}},
        errorThreshold={"batches": 0},
        retry={"maxAttempts": 1},
    )
    ran = job.run()
    assert ran.code == 1
    assert "job: Failed (ErrorThresholdExceeded)" in ran.out
    assert f"go on with: batchyard run {job.manifest} --resume" in ran.out


def test_a_handler_that_cannot_stand_fails_the_job_before_a_batch_is_taken(job):
    ran = job.write(RECORDING_PLAIN.replace("pass", "raise RuntimeError('no key')", 1)).run()
    assert ran.code == 1
    assert "job: Failed (HandlerInvalid)" in ran.out
    assert "RuntimeError: no key" in ran.out
    assert job.state().counts.settled == 0


def test_an_input_without_items_fails_the_job(job):
    told = job.write(RECORDING_PLAIN, input={"items": []}).run_json()
    assert (told["exitCode"], told["state"], told["reason"]) == (1, "Failed", "InputInvalid")


def test_an_input_without_items_succeeds_when_that_is_allowed(job):
    told = job.write(RECORDING_PLAIN, input={"items": []}).run_json("--allow-empty")
    assert (told["exitCode"], told["state"], told["items"]) == (0, "Succeeded", 0)


def test_a_malformed_line_fails_the_job_naming_file_and_line(job):
    (job.folder / "items.jsonl").write_text('{"a": 1}\n{"a": \n')
    told = job.write(RECORDING_PLAIN, input={"delimitedFiles": {"paths": ["items.jsonl"]}}).run_json()
    assert (told["exitCode"], told["reason"]) == (1, "InputInvalid")
    assert "items.jsonl:2" in told["message"]


def test_a_job_over_its_timeout_ends_as_failed_though_a_batch_hangs(job):
    job.write(handler={"type": "python", "path": "handler.py", "config": {"seconds": 600}}, timeout="2s")
    told = job.run_json()
    assert (told["exitCode"], told["reason"]) == (1, "DeadlineExceeded")
    assert job.children("batchyard.") == []


def test_on_job_complete_runs_once_after_every_batch(job):
    told = job.write(RECORDING_PLAIN + COMPLETING).run_json("--workers", 2)
    assert told["exitCode"] == 0
    assert job.lines("completed") == ["5"]


def test_a_job_whose_on_job_complete_fails_ends_with_1_and_keeps_its_counts(job):
    told = job.write(
        RECORDING_PLAIN + COMPLETING.replace("with open", "raise OSError('no mail')\n        with open")
    ).run_json()
    assert (told["exitCode"], told["state"], told["reason"]) == (1, "Failed", "OnJobCompleteFailed")
    assert told["batches"]["succeeded"] == 5
    assert "no mail" in told["message"]


def test_what_a_handler_prints_is_shown_and_bounded(job):
    job.write(
        "class Handler:\n    def __init__(self, config): pass\n"
        "    def handle_batch(self, payload):\n        for i in range(20000): print('line', i)\n"
    )
    ran = job.run()
    assert ran.code == 0
    assert "batch 0 | line 0" in ran.err
    assert "more lines in" in ran.err
    assert ran.err.count("\n") < 5000
    log = (job.state_folder / "logs" / "worker-0.log").read_text()
    assert log.count('"message":"line 19999"') == 5


def test_quiet_shows_the_summary_alone(job):
    ran = job.write(
        "class Handler:\n    def __init__(self, config): print('hello')\n    def handle_batch(self, payload): pass\n"
    ).run("--quiet")
    assert ran.err == ""
    assert "job: Succeeded" in ran.out


def test_set_and_workers_change_what_runs(job):
    job.write(PRINTING_SPEC)
    told = job.run_json("--set", "handler.config.word=bird", "--set", "spec.input.batchSize=5", "--workers", "2")
    assert told["batches"]["total"] == 1
    assert job.lines("seen") == ["bird", "2"]


@pytest.mark.parametrize("workers", [1, 5])
def test_more_workers_than_batches_end_too(job, workers):
    told = job.write(RECORDING_PLAIN, input={"items": [1, 2], "batchSize": 1}, workers=workers).run_json()
    assert told["batches"]["succeeded"] == 2
    assert job.children("batchyard.") == []


def test_a_killed_worker_is_replaced_and_its_batch_runs_again(job, until, finish, kill_hard):
    job.write(handler={"type": "python", "path": "handler.py", "config": {"seconds": 0.3}})
    process = job.start("--json")
    until(lambda: job.lines("finished"), process)
    for worker in job.children("batchyard.worker"):
        kill_hard(worker.pid)
    ran = finish(process)
    assert ran.code == 0, ran.err
    assert ran.json["batches"]["succeeded"] == 5


def test_a_killed_enqueuer_goes_on_where_it_stopped(job, until, finish, kill_hard):
    with (job.folder / "items.jsonl").open("w") as file:
        file.writelines(f"{i}\n" for i in range(400_000))
    job.write(
        "class Handler:\n    def __init__(self, config): pass\n    def handle_batch(self, payload): pass\n",
        input={"delimitedFiles": {"paths": ["items.jsonl"]}, "batchSize": 100},
    )
    process = job.start("--json")
    until(lambda: job.children("batchyard.enqueue") and (job.state_folder / "queue.db").exists(), process)
    until(lambda: job.state().counts.published, process)
    for child in job.children("batchyard.enqueue"):
        kill_hard(child.pid)
    ran = finish(process)
    assert ran.json["items"] == 400_000
    assert ran.json["batches"]["succeeded"] == 4_000


def test_workers_that_die_again_and_again_fail_the_job_with_their_last_words(job):
    job.write(
        "import os, signal\nclass Handler:\n    def __init__(self, config): os.kill(os.getppid(), signal.SIGKILL)\n"
        "    def handle_batch(self, payload): pass\n"
    )
    told = job.run_json()
    assert (told["exitCode"], told["reason"]) == (1, "WorkersFailed")
    assert "SIGKILL" in told["message"]


def test_dependencies_are_installed_before_the_handler_is_imported(job):
    info = "leaves-1.0.dist-info"
    with zipfile.ZipFile(job.folder / "leaves-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("leaves.py", "SHAPE = 'ovate'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: leaves\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"leaves.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    job.write(
        """
        import leaves
        class Handler:
            def __init__(self, config): pass
            def handle_batch(self, payload): open("seen", "w").write(leaves.SHAPE)
        """,
        handler={
            "type": "python",
            "path": "handler.py",
            "dependencies": {"pip": ["--no-index", "./leaves-1.0-py3-none-any.whl"]},
        },
    )
    told = job.run_json()
    assert told["exitCode"] == 0, told
    assert job.lines("seen") == ["ovate"]


def test_dependencies_that_cannot_be_installed_fail_the_job(job):
    job.write(
        RECORDING_PLAIN, handler={"type": "python", "path": "handler.py", "dependencies": {"pip": "missing.txt"}}
    )
    told = job.run_json()
    assert (told["exitCode"], told["reason"]) == (1, "HandlerInvalid")
    assert "missing.txt does not exist" in told["message"]


def test_an_inline_project_is_written_into_the_jobs_folder(job):
    inline = {
        "handler.py": RECORDING_PLAIN.replace("pass", "self.w = __import__('words').WORD", 1),
        "words.py": "WORD = 'x'\n",
    }
    job.write(None, handler={"type": "python", "path": "handler.py", "project": {"inline": inline}})
    told = job.run_json()
    assert told["exitCode"] == 0, told
    assert (job.state_folder / "project" / "words.py").read_text() == "WORD = 'x'\n"


RECORDING_PLAIN = """\
class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload):
        with open("finished", "a") as f: f.write(f"{payload[0]}\\n")
        return payload
"""
COMPLETING = """\
    def on_job_complete(self):
        with open("completed", "a") as f: f.write(f"{len(open('finished').readlines())}\\n")
"""
PRINTING_SPEC = """\
class Handler:
    def __init__(self, config, job_spec): self.config, self.spec = config, job_spec
    def handle_batch(self, payload):
        with open("seen", "a") as f: f.write(f"{self.config['word']}\\n{self.spec['workers']}\\n")
"""
