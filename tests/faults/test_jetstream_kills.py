"""Enqueuers, workers and the server killed with SIGKILL at random moments: a JetStream queue stays exact."""

import json
import random
import subprocess
import sys
import time

import pytest
from batchyard.api.messages import Header, encode
from batchyard.queue.engines import open_queue
from batchyard.queue.port import Completion, QueueUnavailable
from nats_server import NatsServer, missing
from worker_harness import RunningWorker

if missing():
    pytest.skip(missing(), allow_module_level=True)

from batchyard.queue.jetstream import JetStreamQueue

ROUNDS = 24
SERVER_EVERY = 6
TOTAL = 4000

COMMON = """
import json, pathlib, random, sys, time
from batchyard.queue.engines import open_queue
from batchyard.queue.port import COMPLETION, Failure, PublishConflict, QueueUnavailable
folder, name, url, total = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
def body(index):
    return b"%d:" % index + bytes([index % 256]) * (index * 37 % 3000)
def patiently(work):
    while True:
        try:
            return work()
        except QueueUnavailable:
            time.sleep(0.02)
queue = patiently(lambda: open_queue(url, name))
print("ready", flush=True)
"""

# Two of them run at once: each goes on where the queue stands, whoever published last.
ENQUEUER = (
    COMMON
    + """
while True:
    position = patiently(queue.position)
    if position.sealed:
        break
    assert position.cursor == (b"%d" % position.published if position.published else b""), position
    end = min(total, position.published + random.randint(1, 30))
    try:
        if position.published == end:
            queue.seal(end, end * 3)
            break
        queue.publish(position.published, [body(i) for i in range(position.published, end)], cursor=b"%d" % end)
    except (PublishConflict, QueueUnavailable):
        pass
    time.sleep(0.03)
"""
)

# Each line of the log is a settle that the queue confirmed; a kill may lose the line, never the settle.
WORKER = (
    COMMON
    + """
log = (folder / f"{name}.log").open("a", buffering=1)
settled = lambda how, index: log.write(json.dumps([how, index]) + "\\n")
while not patiently(queue.state).is_over:
    for delivery in patiently(lambda: queue.receive(random.randint(1, 12), lease=random.choice([1, 5]), wait=0.1)):
        if delivery.body != body(delivery.index):
            settled("wrong body", delivery.index)
        chance = random.random()
        if chance < 0.7:
            patiently(lambda: queue.ack([delivery]))[0] and settled("succeeded", delivery.index)
        elif chance < 0.8 and delivery.attempts < 2:
            patiently(lambda: queue.retry(delivery, random.choice([0, 0.1]), Failure("HandlerError", "again")))
        elif chance < 0.9:
            patiently(lambda: queue.bury(delivery, Failure("X", "x"))) and settled("failed", delivery.index)
        elif chance < 0.97:
            patiently(lambda: queue.release([delivery]))
    token = patiently(lambda: queue.receive_completion(lease=1))
    if token and random.random() < 0.5:
        patiently(lambda: queue.ack([token]))[0] and settled("succeeded", COMPLETION)
"""
)

PROGRAMS = {"enqueuer-0": ENQUEUER, "enqueuer-1": ENQUEUER} | {f"worker-{n}": WORKER for n in range(3)}


class Fleet:
    """The processes of a job, each under its name."""

    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        self.running = {}
        for name in PROGRAMS:
            self.start(name)

    def start(self, name):
        command = [sys.executable, "-c", PROGRAMS[name], str(self.folder), name, self.url, str(TOTAL)]
        self.running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def kill(self, name):
        """Kill a process and start it again; wait until it stands, so that the next kill finds it at work."""
        with self.running[name] as process:
            process.kill()
        self.start(name)
        assert self.running[name].stdout.readline() == "ready\n"

    def finish(self):
        for process in self.running.values():
            process.communicate(timeout=120)
        return {name: process.returncode for name, process in self.running.items()}

    def end(self):
        for process in self.running.values():
            with process:
                process.kill()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "nats"
    folder.mkdir()
    server = NatsServer(folder)
    yield server
    server.close()


def patiently(work):
    until = time.monotonic() + 60
    while True:
        try:
            return work()
        except QueueUnavailable:
            assert time.monotonic() < until
            time.sleep(0.05)


def kill_at_random(fleet, server, queue, chance):
    before = patiently(queue.state).counts
    for number in range(ROUNDS):
        time.sleep(chance.uniform(0, 0.2))
        if number % SERVER_EVERY == SERVER_EVERY - 1:
            server.kill()
            server.start()
        else:
            fleet.kill(chance.choice(list(PROGRAMS)))
        counts = patiently(queue.state).counts
        assert counts.pending >= 0
        assert counts.published >= before.published
        assert counts.succeeded >= before.succeeded
        assert counts.failed >= before.failed
        before = counts


def test_kills_of_anything_leave_every_count_exact_and_every_batch_settled_once(tmp_path, server):
    url = f"{server.address}/job"
    queue = JetStreamQueue.create(url, lease=1.0)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    fleet = Fleet(tmp_path, url)
    try:
        kill_at_random(fleet, server, queue, random.Random(seed))
        assert set(fleet.finish().values()) == {0}
    finally:
        fleet.end()

    state = queue.state()
    assert state.counts.published == state.counts.succeeded + state.counts.failed == TOTAL == state.total
    assert (state.counts.running, state.counts.pending, state.items) == (0, 0, TOTAL * 3)
    assert state.completion is Completion.SUCCEEDED

    lines = [json.loads(line) for log in tmp_path.glob("*.log") for line in log.read_text().splitlines()]
    assert {how for how, _ in lines} <= {"succeeded", "failed"}
    confirmed = [index for _, index in lines]
    assert len(confirmed) > TOTAL / 2, "the workers hardly worked: the kills proved nothing"
    failed = [batch.index for batch in queue.failed()]
    queue.close()
    assert len(failed) == len(set(failed)) == state.counts.failed
    assert {index for how, index in lines if how == "failed"} <= set(failed)
    assert not {index for how, index in lines if how == "succeeded"} & set(failed)
    assert len(confirmed) == len(set(confirmed)), "a batch was settled twice"


HANDLER = """
class Handler:
    def __init__(self, config):
        pass
    def handle_batch(self, payload):
        if payload == [7]:
            raise ValueError("seven")
        return [2 * item for item in payload]
"""


def test_worker_processes_run_a_job_through_kills_of_themselves_and_the_server(tmp_path, server):
    url = f"{server.address}/job"
    queue = JetStreamQueue.create(url, lease=2.0)
    queue.publish(0, [encode(Header(i, 1), json.dumps([i]).encode()) for i in range(300)])
    queue.seal(300, 300)
    project = tmp_path / "project"
    project.mkdir()
    (project / "handler.py").write_text(HANDLER)

    def start(name):
        settings = {
            "job_id": "job-1",
            "job_name": "job",
            "worker": name,
            "queue": url,
            "lease": 2.0,
            "retry": {"max_attempts": 2, "backoff_initial": 0.05},
            "handler": {"type": "python", "project": str(project), "path": "handler.py"},
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(settings))
        return RunningWorker(path)

    workers = [start("worker-0"), start("worker-1")]
    try:
        while patiently(queue.state).counts.settled < 20:
            time.sleep(0.01)
        workers[0].kill()
        workers[0] = start("worker-2")
        server.kill()
        server.start()
        assert [worker.wait(120).code for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    state = queue.state()
    assert state.completion is Completion.SUCCEEDED
    assert (state.counts.published, state.counts.settled, state.counts.failed) == (300, 300, 1)
    assert [(batch.index, batch.attempts) for batch in queue.failed()] == [(7, 2)]
    queue.close()
    again = open_queue(url)
    assert again.state() == state
    again.close()
