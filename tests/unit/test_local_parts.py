"""The small deciding parts of a local run: restarts, log lines, changed fields, the command that resumes."""

import json

import pytest
from batchyard.cli.run import resume_command
from batchyard.local.logs import Tail, line_for_terminal
from batchyard.local.restarts import Restarts
from batchyard.local.state import changed_field, write_atomically


def test_deaths_in_a_row_wait_longer_and_end():
    restarts = Restarts(limit=4, first_delay=1.0, max_delay=3.0)
    assert restarts.take(0.0), "the first start waits for nothing"
    waits = []
    for _ in range(3):
        assert restarts.died(100.0)
        waits.append(restarts.due - 100.0)
    assert waits == [1.0, 2.0, 3.0]
    assert not restarts.died(100.0)


def test_a_start_is_made_once_and_not_before_it_is_due():
    restarts = Restarts(limit=4, first_delay=1.0)
    restarts.died(100.0)
    assert restarts.is_waiting
    assert not restarts.take(100.5)
    assert restarts.take(101.0)
    assert not restarts.is_waiting


def test_work_done_between_forgives_the_deaths_before():
    restarts = Restarts(limit=2)
    assert restarts.died(0.0)
    restarts.worked()
    assert restarts.died(0.0)
    assert not restarts.died(0.0)


def line(**fields):
    return json.dumps({"level": "INFO", "worker": "worker-1", "message": "hello"} | fields)


@pytest.mark.parametrize(
    ("raw", "name_worker", "expected"),
    [
        pytest.param(line(stream="stdout", batch=3), False, "batch 3 | hello", id="a print"),
        pytest.param(line(stream="stdout", batch=3), True, "worker-1 batch 3 | hello", id="one of several workers"),
        pytest.param(line(stream="stdout"), False, "hello", id="outside of a batch"),
        pytest.param(line(stream="stdout", batch=-1), False, "on_job_complete | hello", id="on_job_complete"),
        pytest.param(line(stream="stderr", level="ERROR"), False, "ERROR: hello", id="an error"),
        pytest.param(line(), False, None, id="the worker's own good news"),
        pytest.param(line(level="WARNING", message="a\nb"), False, "WARNING: a", id="the worker's own bad news"),
        pytest.param("Traceback (most recent call last):", True, "Traceback (most recent call last):", id="a crash"),
        pytest.param("[1, 2]", False, "[1, 2]", id="JSON of somebody else"),
    ],
)
def test_a_log_line_as_a_person_reads_it(raw, name_worker, expected):
    assert line_for_terminal(raw, name_worker=name_worker) == expected


def test_a_log_is_followed_from_its_end_by_whole_lines_and_within_a_limit(tmp_path):
    log = tmp_path / "worker.log"
    log.write_bytes(b"before\n")
    tail = Tail(log)
    assert tail.read(10) == ([], 0)
    with log.open("ab") as file:
        file.write(b"one\ntwo\nhal")
    assert tail.read(10) == (["one", "two"], 0)
    with log.open("ab") as file:
        file.write(b"f\nthree\nfour\nfive\n")
    assert tail.read(2) == (["half", "three"], 2)
    assert tail.read(10) == ([], 0)


def test_lines_beyond_a_spent_budget_are_counted(tmp_path):
    tail = Tail(tmp_path / "worker.log")
    assert tail.read(5) == ([], 0), "there is no file yet"
    (tmp_path / "worker.log").write_bytes(b"a\nb\n")
    assert tail.read(0) == ([], 2)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({"a": 1}, {"a": 1}, None, id="nothing"),
        pytest.param({"a": 1}, {"a": 2}, "a", id="a value"),
        pytest.param({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, "a.b", id="a list inside"),
        pytest.param({}, {"a": 1}, "a", id="a new field"),
        pytest.param({"a": 1}, {}, "a", id="a field that is gone"),
        pytest.param({"a": None}, {}, None, id="nothing and none"),
    ],
)
def test_the_first_changed_field_is_named(before, after, expected):
    assert changed_field(before, after) == expected


def test_writing_atomically_replaces_and_leaves_nothing_else(tmp_path):
    write_atomically(tmp_path / "run.json", b"one")
    write_atomically(tmp_path / "run.json", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == b"two"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["run", "job.yaml"], "batchyard run job.yaml --resume"),
        (["run", "my job.yaml", "--restart"], "batchyard run 'my job.yaml' --resume"),
        (["run", "job.yaml", "--resume", "--set", "a=b c"], "batchyard run job.yaml --set 'a=b c' --resume"),
    ],
    ids=["plain", "restart", "resume"],
)
def test_the_command_that_goes_on_is_the_one_typed(typed, expected):
    assert resume_command(typed) == expected
