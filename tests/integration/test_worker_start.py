"""A worker's start: a handler that stands, one that is refused, one that dies, and `--check`."""

import json

import pytest
from worker_harness import wait_until

FINE = """
class Handler:
    def __init__(self, config):
        print("standing")
    def handle_batch(self, payload): pass
"""

REST = "\n  def handle_batch(self, payload): pass\n"
REFUSED = {
    "no class": ("x = 1\n", "Handler"),
    "async": (f"class Handler:\n  def __init__(self, config): pass{REST}".replace("def h", "async def h"), "async"),
    "import error": ("import nothing_of_that_name\n", "nothing_of_that_name"),
    "syntax error": ("def f(:\n", "line 1"),
    "import exits": ("import sys; sys.exit(5)\n", "SystemExit"),
    "constructor raises": (
        f"class Handler:\n  def __init__(self, config): raise ValueError('no weights'){REST}",
        "Handler.__init__ raised ValueError: no weights",
    ),
    "constructor exits": (
        f"class Handler:\n  def __init__(self, config): raise SystemExit(9){REST}",
        "Handler.__init__ raised SystemExit: 9",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_handler_that_cannot_stand_halts_the_job_before_a_batch_is_taken(make_job, name):
    source, words = REFUSED[name]
    job = make_job(source, [[1]])
    ended = job.run()
    assert ended.code == 64
    halt = job.state.halt
    assert halt is not None
    assert halt.reason == "HandlerInvalid"
    assert words in halt.message
    assert "handler.py" in halt.message
    assert (job.state.counts.pending, job.queue.last_attempt_failure(0)) == (1, None)


def test_a_constructor_that_dies_again_and_again_ends_the_worker_not_the_job(make_job):
    source = f"import os\nclass Handler:\n  def __init__(self, config): os._exit(7){REST}"
    job = make_job(source, [[1]])
    ended = job.run()
    assert ended.code == 1
    (error,) = ended.messages(level="ERROR")
    assert error.startswith("10 handler processes in a row died before they ran a batch, the last exited with code 7")
    assert job.state.halt is None
    assert (job.state.counts.pending, job.queue.last_attempt_failure(0)) == (1, None)


def test_a_constructor_that_raises_only_at_first_is_tried_again(make_job):
    source = """
    import os
    class Handler:
        def __init__(self, config):
            if not os.path.exists("once"):
                open("once", "w").close()
                raise ConnectionError("the database starts")
        def handle_batch(self, payload): pass
    """
    job = make_job(source, [[1]])
    ended = job.run()
    assert ended.code == 0
    assert "the handler's constructor raised ConnectionError: the database starts" in ended.messages(level="ERROR")
    assert job.state.counts.succeeded == 1


def test_a_constructor_that_raises_transient_errors_is_waited_for(make_job):
    source = """
    from batchyard.api.errors import TransientError
    class Handler:
        def __init__(self, config):
            with open("tries", "a") as file: file.write("try\\n")
            if len(open("tries").readlines()) < 6: raise TransientError("not yet")
        def handle_batch(self, payload): pass
    """
    job = make_job(source, [[1]])
    assert job.run().code == 0
    assert len(job.lines("tries")) == 6
    assert job.state.counts.succeeded == 1


def test_config_environment_and_the_project_folder_reach_the_handler(make_job):
    source = """
    import json, os, sys
    import beside
    class Handler:
        def __init__(self, config):
            config["seen"] = [os.environ["PLACE"], os.getcwd(), beside.value, os.environ.get("FROM_FILE")]
            json.dump(config, open("config", "w"))
        def handle_batch(self, payload): pass
    """
    config = {"a": [1, {"b": None}]}
    job = make_job(source, [[1]], handler={"config": config, "env": {"PLACE": "here"}})
    project = job.folder / "project"
    (project / "beside.py").write_text("value = 7\n")
    (project / ".env").write_text("FROM_FILE=yes\n")
    assert job.run().code == 0
    seen = json.loads((project / "config").read_text())
    assert seen == {**config, "seen": ["here", str(project), 7, "yes"]}


def test_a_handler_that_asks_for_job_spec_gets_the_totals_once_they_are_known(make_job):
    source = """
    import json, os
    class Handler:
        def __init__(self, config, job_spec):
            json.dump(job_spec, open("spec", "w"))
        def handle_batch(self, payload): pass
    """
    batches = [[i] for i in range(5)]
    job = make_job(source, batches, sealed=False, workers=4, start_time=123.5, handler={"config": {"k": 1}})
    worker = job.start()
    wait_until(worker.handler_pids, "the handler process")
    job.publish([["one more"]])
    assert not (job.folder / "project" / "spec").exists()
    job.seal()
    assert worker.wait().code == 0
    assert json.loads((job.folder / "project" / "spec").read_text()) == {
        "job_id": "job-1",
        "api_name": "job",
        "config": {"k": 1},
        "workers": 4,
        "total_batch_count": 6,
        "total_item_count": 6,
        "start_time": 123.5,
    }
    assert job.state.counts.succeeded == 6


def test_check_constructs_the_handler_and_takes_nothing(make_job):
    job = make_job(FINE, [[1]])
    ended = job.run("worker-0", "--check")
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.messages() == ["standing"]
    assert job.state.counts.pending == 1


@pytest.mark.parametrize("name", REFUSED)
def test_check_says_why_a_handler_is_refused_and_halts_nothing(make_job, name):
    source, words = REFUSED[name]
    job = make_job(source, [[1]])
    ended = job.run("worker-0", "--check")
    assert ended.code == 64
    assert words in ended.stderr
    assert job.state.halt is None


def test_check_gives_a_handler_that_asks_for_job_spec_one_without_counts(make_job):
    job = make_job(FINE.replace("config", "config, job_spec").replace('"standing"', 'job_spec["total_batch_count"]'))
    ended = job.run("worker-0", "--check")
    assert (ended.code, ended.messages()) == (0, ["0"])


def test_check_ends_with_1_when_the_handler_process_dies(make_job):
    job = make_job("import os; os._exit(3)\n")
    ended = job.run("worker-0", "--check")
    assert ended.code == 1
    assert "the handler process exited with code 3 before it stood" in ended.stderr
