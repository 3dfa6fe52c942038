"""The enqueuer as a process over a real queue file: exit codes, going on, conflicts, halts."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from batchyard.api.messages import decode_header, decode_items
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.enqueue.sources import source_of
from batchyard.enqueue.split import split
from batchyard.queue.port import State
from batchyard.queue.sqlite import SqliteQueue

PATIENCE = 60.0


class Job:
    """A folder with an input, a settings file and a queue."""

    def __init__(
        self, folder: Path, size: int = 1, *, tolerate: bool = False, empty: bool = False, **given: Any
    ) -> None:
        self.queue_file = folder / "queue.db"
        self.settings_file = folder / "enqueue.json"
        SqliteQueue.create(self.queue_file).close()
        self.settings = EnqueueSettings(
            queue=f"sqlite:{self.queue_file}",
            input=InputSettings(**{"kind": "delimitedFiles", **given}),
            folder=folder,
            batch_size=size,
            tolerate_malformed=tolerate,
            allow_empty=empty,
        )
        self.settings_file.write_text(self.settings.model_dump_json())

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "batchyard.enqueue", str(self.settings_file)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def run(self) -> tuple[int, list[str]]:
        """Return the exit code and the lines of standard error."""
        with self.start() as process:
            _, said = process.communicate(timeout=PATIENCE)
        return process.returncode, said.splitlines()

    def state(self) -> State:
        queue = SqliteQueue.open(self.queue_file)
        try:
            return queue.state()
        finally:
            queue.close()

    def bodies(self) -> list[bytes]:
        """Take every batch out of a sealed queue and return the bodies by index."""
        queue = SqliteQueue.open(self.queue_file)
        taken: dict[int, bytes] = {}
        while deliveries := queue.receive(1000, lease=60, wait=0):
            taken |= {d.index: d.body for d in deliveries}
            assert all(queue.ack(deliveries))
        queue.close()
        assert sorted(taken) == list(range(len(taken)))
        return [taken[i] for i in range(len(taken))]

    def expected(self) -> list[bytes]:
        return [batch.body for batch in split(source_of(self.settings).runs(), self.settings.batch_size)]


def write_lines(path: Path, count: int, bad: int | None = None) -> None:
    with path.open("w") as file:
        for i in range(count):
            file.write("oops\n" if i == bad else json.dumps({"id": i}) + "\n")


def test_enqueues_every_item_in_order_and_seals(tmp_path):
    write_lines(tmp_path / "a.jsonl", 2501)
    job = Job(tmp_path, size=2, paths=["a.jsonl"])
    assert job.run()[0] == 0
    state = job.state()
    assert (state.total, state.items, state.halt) == (1251, 2501, None)
    bodies = job.bodies()
    assert bodies == job.expected()
    assert [item["id"] for body in bodies for item in decode_items(body)] == list(range(2501))


def test_a_second_start_finds_the_queue_sealed(tmp_path):
    job = Job(tmp_path, kind="items", items=[1, 2, 3])
    assert [job.run()[0], job.run()[0]] == [0, 0]
    assert job.state().total == 3


def test_a_malformed_line_halts_the_job_and_is_the_last_line_said(tmp_path):
    write_lines(tmp_path / "a.jsonl", 100, bad=41)
    job = Job(tmp_path, paths=["a.jsonl"])
    code, said = job.run()
    state = job.state()
    assert code == 64
    assert state.halt is not None
    assert state.halt.reason == "InputInvalid"
    assert state.halt.message == said[-1]
    assert said[-1].startswith("a.jsonl:42: found 'oops' (Expecting value at column 1), expected one JSON value.")
    assert "errorThreshold" in said[-1]
    assert not state.sealed


def test_a_malformed_line_that_is_tolerated_is_a_batch_that_cannot_run(tmp_path):
    write_lines(tmp_path / "a.jsonl", 5, bad=2)
    job = Job(tmp_path, size=10, tolerate=True, paths=["a.jsonl"])
    assert job.run()[0] == 0
    headers = [decode_header(body) for body in job.bodies()]
    assert [(h.first, h.count, h.invalid is not None) for h in headers] == [
        (0, 2, False),
        (2, 1, True),
        (3, 2, False),
    ]
    assert headers[1].invalid.startswith("a.jsonl:3: found 'oops'")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param({"kind": "items", "items": []}, "input.items: found no items, expected", id="empty"),
        pytest.param({"paths": ["b.jsonl"]}, "Did you mean", id="a path that does not exist"),
    ],
)
def test_an_input_that_cannot_be_entered_halts_the_job(tmp_path, given, sentence):
    write_lines(tmp_path / "a.jsonl", 1)
    job = Job(tmp_path, **given)
    code, said = job.run()
    assert (code, job.state().halt.reason) == (64, "InputInvalid")
    assert sentence in said[-1]


def test_an_empty_input_that_is_allowed_is_sealed_with_nothing(tmp_path):
    job = Job(tmp_path, kind="items", items=[], empty=True)
    assert job.run()[0] == 0
    assert (job.state().total, job.state().items) == (0, 0)


def test_sigterm_stops_it_and_the_next_start_goes_on(tmp_path):
    write_lines(tmp_path / "a.jsonl", 200_000)
    job = Job(tmp_path, paths=["a.jsonl"])
    with job.start() as process:
        wait_for(lambda: job.state().counts.published > 0)
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert 0 < job.state().counts.published < 200_000
    code, said = job.run()
    assert code == 0
    assert any("going on behind batch" in line for line in said)
    assert job.bodies() == job.expected()


def test_two_enqueuers_at_once_publish_each_batch_once(tmp_path):
    write_lines(tmp_path / "a.jsonl", 30_000)
    job = Job(tmp_path, paths=["a.jsonl"])
    with job.start() as one, job.start() as two:
        for process in (one, two):
            process.communicate(timeout=PATIENCE)
    assert (one.returncode, two.returncode) == (0, 0)
    assert job.bodies() == job.expected()


def test_settings_that_changed_since_are_refused(tmp_path):
    write_lines(tmp_path / "a.jsonl", 100_000)
    job = Job(tmp_path, paths=["a.jsonl"])
    with job.start() as process:
        wait_for(lambda: job.state().counts.published > 0)
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert not job.state().sealed
    job.settings_file.write_text(job.settings.model_copy(update={"batch_size": 7}).model_dump_json())
    code, said = job.run()
    assert code == 64
    assert "start the job anew" in said[-1]


def test_a_halted_job_is_not_filled_further(tmp_path):
    write_lines(tmp_path / "a.jsonl", 400_000)
    job = Job(tmp_path, paths=["a.jsonl"])
    queue = SqliteQueue.open(job.queue_file)
    queue.halt("HandlerInvalid", "no Handler")
    queue.close()
    code, said = job.run()
    assert code == 1
    assert "the job was stopped" in said[-1]
    assert job.state().counts.published < 400_000


def test_a_batch_of_64_mib_goes_through(tmp_path):
    (tmp_path / "a.jsonl").write_text('"' + "x" * (64 << 20) + '"\n')
    job = Job(tmp_path, paths=["a.jsonl"])
    assert job.run()[0] == 0
    (body,) = job.bodies()
    assert decode_items(body) == ["x" * (64 << 20)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param("{}", "input", id="settings without an input"),
        pytest.param('{"queue": "sqlite:/no/such/queue.db", "input": {"kind": "items"}}', "queue.db", id="no queue"),
    ],
)
def test_what_is_not_the_inputs_fault_ends_with_1(tmp_path, settings, words):
    job = Job(tmp_path, kind="items", items=[1])
    job.settings_file.write_text(settings)
    code, said = job.run()
    assert code == 1
    assert words in "\n".join(said)


def wait_for(condition: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.005)
