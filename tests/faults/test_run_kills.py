"""A whole `batchyard run`, any of its processes killed by SIGKILL at random, then resumed: exact each time."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from batchyard.output.read import read_results
from batchyard.queue.port import Completion, State
from batchyard.queue.sqlite import SqliteQueue

BATCHYARD = [sys.executable, "-m", "batchyard.cli.main"]
KINDS = {
    "handler process": "batchyard.worker.child",
    "worker": "batchyard.worker",
    "enqueuer": "batchyard.enqueue",
    "server": "batchyard.serving.server",
}
MANIFEST = """
apiVersion: batchyard.dev/v1alpha1
kind: BatchJob
metadata: {name: killed}
spec:
  handler: {type: python, path: handler.py, processes: 2}
  input:
    delimitedFiles: {paths: [items.jsonl]}
    batchSize: 5
  workers: 2
  output: {path: results}
  retry: {maxAttempts: 100, backoff: {initial: 10ms, max: 20ms}}
"""
HANDLER = """
import time

class Handler:
    def __init__(self, config):
        pass

    def handle_batch(self, payload, batch_id):
        time.sleep(0.02)
        return [item["n"] * 2 for item in payload]

    def on_job_complete(self):
        with open("completed", "a") as file:
            file.write("once\\n")
"""


def kind_of(process: psutil.Process) -> str:
    words = process.cmdline()
    return next((kind for kind, module in KINDS.items() if module in words), "other")


def family(runner: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return runner.children(recursive=True)
    return []


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("ab") as log:
        run = subprocess.Popen([*BATCHYARD, "run", "batchjob.yaml", *flags], cwd=folder, stdout=log, stderr=log)
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def look(folder: Path) -> State | None:
    """Return the queue's state, None before the first run made one."""
    path = folder / ".batchyard" / "killed" / "queue.db"
    if not path.exists():
        return None
    queue = SqliteQueue.open(str(path))
    try:
        return queue.state()
    finally:
        queue.close()


def check(state: State | None, before: State | None, folder: Path) -> None:
    """Hold one look to what must be true at any moment."""
    if state is None:
        return
    counts = state.counts
    assert counts.pending >= 0
    assert counts.published == counts.succeeded + counts.failed + counts.running + counts.pending
    if before is not None:
        assert counts.succeeded >= before.counts.succeeded
        assert counts.published >= before.counts.published
    # a result is durable before its batch is settled
    assert sum(1 for _ in (folder / "results").glob("parts/*/part-*.jsonl")) >= counts.succeeded


def strike(run: subprocess.Popen[bytes], kinds: tuple[str, ...]) -> str | None:
    """SIGKILL one process of the run, of a kind drawn first, so that few processes are struck as often as many."""
    kind = random.choice(kinds)
    if kind == "runner":
        orphans = family(psutil.Process(run.pid))
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        _gone, alive = psutil.wait_procs(orphans, timeout=10)
        assert not alive, f"outlived the runner: {[process.cmdline() for process in alive]}"
        return kind
    members = []
    for process in family(psutil.Process(run.pid)):
        with suppress(psutil.NoSuchProcess):
            if kind_of(process) == kind:
                members.append(process)
    if not members:
        return None
    with suppress(psutil.NoSuchProcess):
        random.choice(members).kill()
    return kind


def run_to_the_end(folder: Path, kinds: tuple[str, ...], pause: tuple[float, float], most: int) -> Counter[str]:
    """Run and resume until the job ends by itself, striking up to ``most`` times; return what was struck."""
    struck: Counter[str] = Counter()
    before: State | None = None
    flags: tuple[str, ...] = ()
    for _life in range(100):
        with running(folder, *flags) as run:
            while run.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    run.wait(random.uniform(*pause))
                if run.poll() is None and struck.total() < most:
                    kind = strike(run, kinds)
                    if kind:
                        struck[kind] += 1
                state = look(folder)
                check(state, before, folder)
                before = state or before
        if run.returncode != -signal.SIGKILL:
            assert run.returncode == 0, (folder / "log").read_text()[-4000:]
            return struck
        flags = ("--resume",)
    raise AssertionError("the job did not end")


def make_job(folder: Path, items: int) -> None:
    folder.mkdir()
    (folder / "batchjob.yaml").write_text(MANIFEST)
    (folder / "handler.py").write_text(HANDLER)
    (folder / "items.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(items)))


def assert_exact(folder: Path, items: int) -> None:
    found = [(line["position"], line["result"]) for line in read_results(folder / "results")]
    assert found == [(n, n * 2) for n in range(items)]
    state = look(folder)
    assert state is not None
    assert (state.counts.published, state.counts.succeeded, state.counts.failed) == (items // 5, items // 5, 0)
    assert state.completion is Completion.SUCCEEDED
    assert (folder / "completed").read_text()
    manifest = json.loads((folder / "results" / "manifest.json").read_text())
    assert manifest["batches"] == {"total": items // 5, "succeeded": items // 5, "failed": 0}
    assert manifest["items"] == items


@pytest.mark.timeout(600)
def test_fifty_kills_of_any_process_lose_and_double_nothing(tmp_path: Path) -> None:
    struck: Counter[str] = Counter()
    job = 0
    while struck.total() < 50:
        folder = tmp_path / f"job-{job}"
        make_job(folder, 2000)
        kinds = ("runner", "worker", "handler process", "enqueuer", "worker", "handler process")
        struck += run_to_the_end(folder, kinds, (0.05, 0.5), most=20)
        assert_exact(folder, 2000)
        job += 1
    assert {"runner", "worker", "handler process"} <= set(struck)


@pytest.mark.tensorflow
@pytest.mark.timeout(600)
def test_a_killed_model_server_comes_back_and_no_batch_pays_for_it(tmp_path: Path, savedmodels: Path) -> None:
    folder = tmp_path / "job"
    make_job(folder, 1000)
    manifest = MANIFEST.replace("type: python", "type: tensorflow, models: {path: model}")
    (folder / "batchjob.yaml").write_text(manifest.replace("maxAttempts: 100", "maxAttempts: 1"))
    (folder / "model").symlink_to(savedmodels / "half_plus" / "2")
    handler = HANDLER.replace("self, config", "self, config, tensorflow_client")
    handler = handler.replace("pass", "self.model = tensorflow_client")
    predict = 'return self.model.predict({"x": [[i["n"] * 4.0 - 4, 0, 0] for i in payload]})["y"][:, 0].astype(int)'
    (folder / "handler.py").write_text(handler.replace('return [item["n"] * 2 for item in payload]', predict))
    struck = run_to_the_end(folder, ("server",), (1.0, 3.0), most=4)
    assert struck["server"] >= 1
    assert_exact(folder, 1000)
