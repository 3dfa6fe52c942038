"""Enqueuers and workers killed with SIGKILL at random moments: the queue stays exact, nothing is settled twice."""

import json
import random
import subprocess
import sys
import time

import apsw
from batchyard.queue.port import Completion
from batchyard.queue.sqlite import SqliteQueue

ROUNDS = 60
SEALED_FROM = 40  # rounds before this one see publishing without an end

COMMON = """
import json, pathlib, random, sys, time
from batchyard.queue.port import COMPLETION, Failure, PublishConflict
from batchyard.queue.sqlite import SqliteQueue
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
queue = SqliteQueue.open(folder / "queue.db", owner=name)
def body(index):
    return b"%d:" % index + bytes([index % 256]) * (index * 37 % 3000)
print("ready", flush=True)
"""

# Two of them run at once: each goes on where the queue stands, whoever published last.
ENQUEUER = (
    COMMON
    + """
total = folder / "total"
while True:
    position = queue.position()
    if position.sealed:
        break
    assert position.cursor == (b"%d" % position.published if position.published else b""), position
    end = position.published + random.randint(1, 20)
    try:
        if total.exists():
            end = min(end, int(total.read_text()))
            if position.published == end:
                queue.seal(end, end * 3)
                break
        elif queue.state().counts.pending > 3000:
            time.sleep(0.01)
            continue
        queue.publish(position.published, [body(i) for i in range(position.published, end)], cursor=b"%d" % end)
    except PublishConflict:
        pass
"""
)

# Each line of the log is a settle that the queue confirmed; a kill may lose the line, never the settle.
WORKER = (
    COMMON
    + """
log = (folder / f"{name}.log").open("a", buffering=1)
settled = lambda how, index: log.write(json.dumps([how, index]) + "\\n")
while not queue.state().is_over:
    for delivery in queue.receive(random.randint(1, 12), lease=random.choice([0.2, 2.0]), wait=0.1):
        if delivery.body != body(delivery.index):
            settled("wrong body", delivery.index)
        chance = random.random()
        if chance < 0.7:
            queue.ack([delivery])[0] and settled("succeeded", delivery.index)
        elif chance < 0.8 and delivery.attempts < 2:
            queue.retry(delivery, random.choice([0, 0.1]), Failure("HandlerError", "again"))
        elif chance < 0.9:
            queue.bury(delivery, Failure("HandlerError", "enough")) and settled("failed", delivery.index)
        elif chance < 0.97:
            queue.release([delivery])
    token = queue.receive_completion(lease=0.5)
    if token and random.random() < 0.5:
        queue.ack([token])[0] and settled("succeeded", COMPLETION)
"""
)

PROGRAMS = {
    "enqueuer-0": ENQUEUER,
    "enqueuer-1": ENQUEUER,
    "worker-0": WORKER,
    "worker-1": WORKER,
    "worker-2": WORKER,
}


class Fleet:
    """The processes of a job, each under its name."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}
        for name in PROGRAMS:
            self.start(name)

    def start(self, name):
        command = [sys.executable, "-c", PROGRAMS[name], str(self.folder), name]
        self.running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def kill(self, names):
        """Kill processes at one moment and start them again; wait until each stands, so that it dies at work."""
        for name in names:
            self.running[name].kill()
        for name in names:
            with self.running[name] as process:
                process.wait()
            self.start(name)
        for name in names:
            assert self.running[name].stdout.readline() == "ready\n"

    def finish(self):
        """Return the exit code of each process that is left to end by itself."""
        for process in self.running.values():
            process.communicate(timeout=60)
        return {name: process.returncode for name, process in self.running.items()}

    def end(self):
        for process in self.running.values():
            with process:
                process.kill()


def look(path):
    queue = SqliteQueue.open(path)
    state = queue.state()
    queue.close()
    return state


def kill_at_random(fleet, path, chance):
    before = look(path).counts
    for number in range(ROUNDS):
        if number == SEALED_FROM:
            (fleet.folder / "draft").write_text(str(look(path).counts.published + 1500))
            (fleet.folder / "draft").rename(fleet.folder / "total")
        time.sleep(chance.uniform(0, 0.04))
        # now and then all at once: the next to open the file recovers it alone
        names = list(PROGRAMS) if number % 10 == 9 else [chance.choice(list(PROGRAMS))]
        fleet.kill(names)
        if chance.random() < 0.5:
            queue = SqliteQueue.open(path)
            queue.reclaim(names[0])  # what a runner does that saw a worker die
            queue.close()
        counts = look(path).counts
        assert counts.pending >= 0
        assert counts.published >= before.published
        assert counts.succeeded >= before.succeeded
        assert counts.failed >= before.failed
        before = counts


def test_sixty_rounds_of_sigkill_leave_every_count_exact_and_every_batch_settled_once(tmp_path):
    path = tmp_path / "queue.db"
    SqliteQueue.create(path).close()
    seed = random.randrange(1 << 32)
    print("seed", seed)
    fleet = Fleet(tmp_path)
    try:
        kill_at_random(fleet, path, random.Random(seed))
        assert set(fleet.finish().values()) == {0}
    finally:
        fleet.end()

    total = int((tmp_path / "total").read_text())
    state = look(path)
    assert state.counts.published == state.counts.succeeded + state.counts.failed == total == state.total
    assert (state.counts.running, state.counts.pending, state.items) == (0, 0, total * 3)
    assert state.completion is Completion.SUCCEEDED

    lines = [json.loads(line) for log in tmp_path.glob("*.log") for line in log.read_text().splitlines()]
    confirmed = [index for _, index in lines]
    assert {how for how, _ in lines} <= {"succeeded", "failed"}
    assert len(confirmed) == len(set(confirmed)), "a batch was settled twice"
    assert len(confirmed) > total / 2, "the workers hardly worked: the kills proved nothing"

    queue = SqliteQueue.open(path)
    failed = [batch.index for batch in queue.failed()]
    queue.close()
    assert len(failed) == state.counts.failed
    assert {index for how, index in lines if how == "failed"} <= set(failed)
    assert not {index for how, index in lines if how == "succeeded"} & set(failed)
    check_file(path, failed)


def check_file(path, failed):
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    assert [index for (index,) in connection.execute("SELECT id FROM body ORDER BY id")] == failed
    assert list(connection.execute("SELECT * FROM delivery")) == []
    connection.close()
