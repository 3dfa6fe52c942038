"""The worker's own log: one line a line, JSON for a collector, plain text for a terminal."""

import json
import re

import pytest
from batchyard.worker.logs import Log
from batchyard.worker.tags import Line


@pytest.fixture
def written(capfd):
    def read():
        return capfd.readouterr().out.splitlines()

    return read


def test_a_json_line_carries_job_worker_batch_and_attempt(written):
    log = Log("json", "my job", "worker-2")
    log.user(1, "stdout", Line("hello", 7, 2))
    log.flush()
    (record,) = map(json.loads, written())
    assert record.pop("time") > 0
    assert record == {
        "level": "INFO",
        "job": "my job",
        "worker": "worker-2",
        "process": 1,
        "stream": "stdout",
        "batch": 7,
        "attempt": 2,
        "message": "hello",
    }


@pytest.mark.parametrize(
    ("stream", "line", "level"),
    [
        ("stdout", Line("x"), "INFO"),
        ("stderr", Line("x"), "ERROR"),
        ("stderr", Line("x", level="WARNING"), "WARNING"),
        ("stdout", Line("x", level="DEBUG"), "DEBUG"),
    ],
)
def test_the_level_is_the_records_or_the_streams(written, stream, line, level):
    log = Log("json", "j", "w")
    log.user(0, stream, line)
    log.flush()
    assert [json.loads(text)["level"] for text in written()] == [level]


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("text", ["tree \N{DECIDUOUS TREE}", "half \udc80", "nul \0", ""])
def test_any_text_can_be_logged(written, form, text):
    log = Log(form, "j", "w")
    log.say("WARNING", text, batch=1, detail=text)
    assert len(written()) == 1


def test_text_lines_say_where_and_how_bad(written):
    log = Log("text", "j", "w")
    log.say("INFO", "ready")
    log.say("WARNING", "careful", batch=4)
    log.user(0, "stdout", Line("closing", -1, 1))
    log.flush()
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in written()]
    assert lines == ["w | ready", "w batch 4 WARNING | careful", "w on_job_complete | closing"]


def test_lines_of_user_code_are_gathered_until_a_flush(written):
    log = Log("text", "j", "w")
    log.user(0, "stdout", Line("one"))
    assert written() == []
    log.flush()
    assert len(written()) == 1
