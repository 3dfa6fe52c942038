"""Workers and handler processes killed at random moments: no batch is lost, counts stay exact, nobody is orphaned."""

import os
import random
import signal
import time
from collections import Counter

import pytest
from batchyard.queue.port import Completion
from worker_harness import RunningWorker, WorkerJob, is_running, wait_until

ROUNDS = 60
HANDLER = """
import itertools, os, time

notes = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(text):
    os.write(notes, f"{text}\\n".encode())  # one write: never half a line, never mixed

class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload):
        number, kind = payload
        if kind == "slow": time.sleep(0.05)
        if kind == "busy": sum(itertools.repeat(0, 3_000_000))  # holds the GIL
        if kind == "raise": raise ValueError("always")
        note(number)
    def on_job_complete(self):
        note("complete")
"""
KINDS = ["tiny"] * 30 + ["slow"] * 4 + ["busy"] * 2 + ["raise"]
MAX_ATTEMPTS = 4


class Crew:
    """Two workers that are started again whenever they are killed, as a supervisor would."""

    def __init__(self, job: WorkerJob) -> None:
        self._job = job
        self.workers: dict[str, RunningWorker] = {}
        for name in ("worker-0", "worker-1"):
            self.start(name)

    def start(self, name: str) -> None:
        threads = 3 if name == "worker-1" else 1
        self.workers[name] = self._job.start(name, threads=threads)

    def kill_worker(self, name: str) -> None:
        """SIGKILL the worker, see its handler processes go, give its batches back, start it again."""
        worker = self.workers[name]
        handlers = worker.handler_pids()
        worker.kill()
        for pid in handlers:
            wait_until(lambda pid=pid: not is_running(pid), f"handler process {pid} to go with its worker")
        self._job.queue.reclaim(name)
        self.start(name)


def add_batches(job: WorkerJob, count: int, chance: random.Random) -> set[int]:
    """Publish batches of random kinds; return those that can only fail."""
    first = job.queue.position().published
    batches = [(first + i, chance.choice(KINDS)) for i in range(count)]
    job.publish(batches)
    return {number for number, kind in batches if kind == "raise"}


def kill_something(crew: Crew, chance: random.Random) -> str:
    name = chance.choice(sorted(crew.workers))
    if chance.random() < 0.5:
        crew.kill_worker(name)
        return "worker"
    handlers = crew.workers[name].handler_pids()
    if not handlers:
        return "none"
    os.kill(handlers[0], signal.SIGKILL)
    return "handler"


@pytest.mark.parametrize("seed", [1])
def test_a_job_survives_any_number_of_kills_with_exact_counts(make_job, seed):
    chance = random.Random(seed)
    retry = {"max_attempts": MAX_ATTEMPTS, "backoff_initial": 0.01, "backoff_max": 0.1}
    job = make_job(HANDLER, sealed=False, retry=retry, max_lost=1000, lease=5.0)
    bad = add_batches(job, 1500, chance)
    crew = Crew(job)
    killed: Counter[str] = Counter()
    settled = 0
    while killed["worker"] + killed["handler"] < ROUNDS:
        time.sleep(chance.uniform(0, 0.5))
        killed[kill_something(crew, chance)] += 1
        bad |= add_batches(job, 60, chance)
        counts = job.state.counts
        assert counts.published == job.queue.position().published
        assert counts.settled >= settled, "a settled batch never comes back"
        assert counts.pending >= 0
        assert len({batch.index for batch in job.queue.failed()}) >= counts.failed
        settled = counts.settled
    job.seal()
    for worker in crew.workers.values():
        ended = worker.wait()
        assert ended.code == 0, ended.stderr

    state = job.state
    failed = job.failed()
    assert state.completion is Completion.SUCCEEDED
    assert (state.counts.running, state.counts.pending) == (0, 0)
    assert state.counts.failed == len(failed)
    assert state.counts.published == 1500 + 60 * sum(killed.values()) == state.counts.succeeded + len(failed)
    finished = Counter(job.lines("notes"))
    assert finished["complete"] >= 1
    never = {i for i in range(state.counts.published) if not finished[str(i)]}
    assert never <= set(failed), "a batch counts as succeeded although its handler never ended"
    assert bad <= set(failed)
    assert all(batch.attempts == MAX_ATTEMPTS for batch in failed.values())
    assert killed["worker"] >= 15, killed
    assert killed["handler"] >= 15, killed
