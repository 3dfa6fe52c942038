"""What reaches a handler and how a worker goes on with it: payloads, retries, several processes and threads."""

import json
import math
from collections import Counter

import pytest
from batchyard.api.messages import Header, encode
from batchyard.api.names import batch_id
from batchyard.queue.port import Failure
from worker_harness import wait_until

NOTES = """
def note(text):
    with open("notes", "a") as file:
        file.write(f"{text}\\n")
"""

ECHO = (
    NOTES
    + """
import json
class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload, batch_id):
        note(json.dumps([batch_id, payload]))
"""
)

# does what the batch's first item says: "raise", "hang", "crash", "work SECONDS", …; anything else succeeds
OBEY = (
    NOTES
    + """
import ctypes, os, threading, time
from batchyard.api.errors import TransientError

class Away(TransientError): pass

class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload):
        order = payload[0]
        if not str(order).startswith("barrier"):
            note(order)
        if order == "raise": raise ValueError("no")
        if order == "hang": time.sleep(3600)
        if order == "crash": ctypes.string_at(0)
        if str(order).startswith("work"): time.sleep(float(order.split()[1]))
        if str(order).startswith("first crash") and "crashed" not in os.listdir():
            note(order + " crashes")
            open("crashed", "w").close()
            ctypes.string_at(0)
        if str(order).startswith("barrier"):  # goes on when all of its kind are in: they run at once or never end
            note(order)
            while sum(line.startswith("barrier") for line in set(open("notes").read().splitlines())) < payload[1]:
                time.sleep(0.01)
        if order in ("away", "away, wrapped") and order + " once" not in open("notes").read():
            note(order + " once")
            try:
                raise Away("the server is away")
            except Away as error:
                if order == "away": raise
                raise RuntimeError("my own words") from error
"""
)


def bodies_of(*items):
    return [encode(Header(i, 1), b"[" + item + b"]") for i, item in enumerate(items)]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'"\xc3\xa9\xf0\x9f\x8c\xb3 \\u0000 \\ud83c\\udf33 \xe2\x80\xa8"', id="unicode"),
        pytest.param(b"123456789012345678901234567890", id="big integer"),
        pytest.param(b'{"": [null, true, 1.5e300, -0.0]}', id="nested"),
        pytest.param(b'"' + b"x" * (1 << 20) + b'"', id="1 MB"),
        pytest.param(b'"' + b"y" * (20 << 20) + b'"', id="20 MB"),
    ],
)
def test_an_item_reaches_the_handler_as_python_reads_it(make_job, raw):
    job = make_job(ECHO, bodies=bodies_of(raw))
    assert job.run().code == 0
    got_id, payload = json.loads(job.lines("notes")[0])
    assert payload == [json.loads(raw)]
    assert got_id == batch_id("job-1", 0)


def test_nan_and_infinity_reach_the_handler(make_job):
    job = make_job(ECHO, bodies=bodies_of(b"NaN", b"Infinity", b"-Infinity"))
    assert job.run().code == 0
    nan, *infinities = (json.loads(line)[1][0] for line in job.lines("notes"))
    assert math.isnan(nan)
    assert infinities == [math.inf, -math.inf]


def test_many_large_batches_pass_through_a_few_processes(make_job):
    job = make_job(ECHO.replace("payload]))", "len(payload[0])]))"), [["z" * (1 << 20)]] * 60, processes=2)
    assert job.run().code == 0
    assert job.state.counts.succeeded == 60
    assert {json.loads(line)[1] for line in job.lines("notes")} == {1 << 20}


def test_a_failing_batch_is_tried_again_until_its_attempts_are_used_up(make_job):
    job = make_job(OBEY, [["fine"], ["raise"]])
    ended = job.run()
    assert ended.code == 0
    assert Counter(job.lines("notes")) == {"fine": 1, "raise": 3}
    failed = job.failed()[1]
    assert (failed.attempts, failed.failure.reason, failed.failure.error) == (3, "HandlerError", "ValueError: no")
    assert [m for m in ended.messages(batch=1) if "attempt" in m] == [
        f"batch 1, attempt {n}: ValueError: no" for n in (1, 2, 3)
    ]


def test_attempts_on_record_count_although_another_worker_made_them(make_job):
    job = make_job(OBEY, [["raise"]])
    for _ in range(2):
        (delivery,) = job.queue.receive(1, 30, 5)
        job.queue.retry(delivery, 0, Failure("HandlerError", "earlier"))
    job.run()
    assert job.lines("notes") == ["raise"]
    assert job.failed()[0].attempts == 3


def test_a_batch_whose_attempts_are_used_up_on_record_is_buried_without_running(make_job):
    job = make_job(OBEY, [["fine"]], retry={"max_attempts": 2})
    for _ in range(2):
        (delivery,) = job.queue.receive(1, 30, 5)
        job.queue.retry(delivery, 0, Failure("BatchTimeout", "told earlier", worker="worker-7"))
    assert job.run().code == 0
    assert job.lines("notes") == []
    failed = job.failed()[0]
    assert (failed.attempts, failed.failure.reason, failed.failure.error) == (2, "BatchTimeout", "told earlier")


def test_a_batch_whose_workers_vanish_again_and_again_is_buried_as_worker_lost(make_job):
    job = make_job(OBEY, [["fine"]], max_lost=2)
    for _ in range(2):
        job.queue.receive(1, 0.0, 5)
    assert job.run().code == 0
    assert job.lines("notes") == []
    failed = job.failed()[0]
    assert (failed.attempts, failed.failure.reason) == (0, "WorkerLost")
    assert failed.failure.error.startswith("2 workers vanished")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b"not ours\n[]", "not a batch of ours", id="not a message"),
        pytest.param(b"", "not a batch of ours", id="empty"),
        pytest.param(b"[1]\n[]", "not a batch of ours", id="header of another kind"),
        pytest.param(encode(Header(0, 1, "data.jsonl, line 7: no JSON"), b'["{"]'), "line 7: no JSON", id="bad line"),
    ],
)
def test_a_message_that_cannot_run_is_buried_without_running(make_job, body, error):
    job = make_job(OBEY, bodies=[body, *bodies_of(b'"fine"')])
    assert job.run().code == 0
    assert job.lines("notes") == ["fine"]
    failed = job.failed()[0]
    assert (failed.attempts, failed.failure.reason) == (0, "InvalidItem")
    assert error in failed.failure.error


@pytest.mark.parametrize("order", ["away", "away, wrapped"])
def test_a_server_that_is_away_costs_no_attempt(make_job, order):
    job = make_job(OBEY, [[order]], retry={"max_attempts": 1})
    ended = job.run()
    assert ended.code == 0
    assert job.lines("notes") == [order, f"{order} once", order]
    assert job.state.counts.succeeded == 1
    assert [m for m in ended.messages(batch=0) if m.startswith("given back")]


def test_processes_run_batches_side_by_side(make_job):
    job = make_job(OBEY, [["barrier one", 2], ["barrier two", 2]], processes=2)
    assert job.run().code == 0
    assert job.state.counts.succeeded == 2


def test_threads_run_batches_side_by_side(make_job):
    job = make_job(OBEY, [[f"barrier {i}", 3] for i in range(3)], threads=3)
    assert job.run().code == 0
    assert job.state.counts.succeeded == 3


def test_neighbours_of_a_batch_that_times_out_pay_no_attempt(make_job):
    batches = [["hang"], *([["work 0.7"]] * 8)]
    job = make_job(OBEY, batches, threads=3, batch_timeout=1.0, retry={"max_attempts": 1})
    assert job.run().code == 0
    assert {index: batch.failure.reason for index, batch in job.failed().items()} == {0: "BatchTimeout"}
    assert job.state.counts.succeeded == 8


def test_a_neighbour_that_would_never_end_is_given_back_and_judged_by_itself(make_job):
    batches = [["hang"], ["work 0.5"], ["hang"], ["fine"]]
    job = make_job(OBEY, batches, threads=2, batch_timeout=1.0, retry={"max_attempts": 1})
    assert job.run().code == 0
    assert {index: batch.failure.reason for index, batch in job.failed().items()} == dict.fromkeys(
        (0, 2), "BatchTimeout"
    )


def test_with_threads_only_the_batch_that_crashes_alone_pays(make_job):
    """Nobody can tell which of several running batches crashed the process: each runs alone, one of them does it."""
    batches = [["work 0.3"], ["crash"], ["work 0.3"], ["fine"], ["work 0.1"]]
    job = make_job(OBEY, batches, threads=3, retry={"max_attempts": 1})
    assert job.run().code == 0
    failed = job.failed()
    assert set(failed) == {1}
    assert (failed[1].attempts, failed[1].failure.reason) == (1, "ProcessDied")


def test_crash_suspects_that_are_innocent_alone_pay_nothing(make_job):
    batches = [["first crash a"], ["work 0.5"], ["work 0.5"]]
    job = make_job(OBEY, batches, threads=3, retry={"max_attempts": 1})
    assert job.run().code == 0
    assert job.failed() == {}
    notes = job.lines("notes")
    assert notes.count("first crash a") == 2  # it ran again, and this time it was fine


def test_several_workers_share_a_job_without_running_a_batch_twice(make_job):
    job = make_job(OBEY, [[f"batch {i}"] for i in range(600)])
    workers = [job.start(f"worker-{i}") for i in range(3)]
    assert [worker.wait().code for worker in workers] == [0, 0, 0]
    assert Counter(job.lines("notes")) == {f"batch {i}": 1 for i in range(600)}
    assert job.state.counts.succeeded == 600


def test_a_batch_longer_than_its_lease_stays_with_its_worker(make_job):
    job = make_job(OBEY, [["work 2.5"]], lease=1.0)
    first = job.start("worker-0")
    job.wait_for_line("notes", "work 2.5")
    second = job.start("worker-1")
    assert (first.wait().code, second.wait().code) == (0, 0)
    assert job.lines("notes") == ["work 2.5"]
    assert job.state.counts.succeeded == 1


def test_the_lease_holds_while_the_handler_prints_a_million_lines(make_job):
    handler = """
    class Handler:
        def __init__(self, config): pass
        def handle_batch(self, payload):
            for number in range(1_000_000):
                print(number)
    """
    job = make_job(handler, [[0]], lease=1.0)
    ended = job.run()
    assert ended.code == 0
    printed = [line["message"] for line in ended.log if line.get("stream") == "stdout"]
    assert printed == [str(number) for number in range(1_000_000)]
    assert {(line["batch"], line["attempt"]) for line in ended.log if "stream" in line} == {(0, 1)}
    assert job.state.counts.succeeded == 1


def test_batches_wait_for_the_handler_to_stand(make_job):
    handler = NOTES + (
        """
import os, time
class Handler:
    def __init__(self, config):
        note("constructing")
        while "go" not in os.listdir(): time.sleep(0.01)
    def handle_batch(self, payload): pass
"""
    )
    job = make_job(handler, [[1]])
    worker = job.start()
    job.wait_for_line("notes", "constructing")
    assert job.state.counts.running == 0
    (job.folder / "project" / "go").touch()
    assert worker.wait().code == 0
    wait_until(lambda: job.state.counts.succeeded == 1, "the batch")
