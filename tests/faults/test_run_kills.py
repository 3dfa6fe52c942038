"""Whole jobs whose processes are killed at random: whatever dies, every item ends in the results, exactly once."""

import json
import os
import random
import signal
import subprocess
import sys

import psutil
import pytest
import yaml
from batchyard.output.finish import read_results

ITEMS = 300
ROUNDS = 50
HANDLER = """
import random, time
class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload):
        time.sleep(random.uniform(0.02, 0.08))
        return [item * 2 for item in payload]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "handler.py").write_text(HANDLER)
    (tmp_path / "items.jsonl").write_text("".join(f"{i}\n" for i in range(ITEMS)))
    manifest = {
        "apiVersion": "batchyard.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": "storm"},
        "spec": {
            "handler": {"type": "python", "path": "handler.py", "processes": 2},
            "input": {"delimitedFiles": {"paths": ["items.jsonl"]}, "batchSize": 1},
            "workers": 2,
            "output": {"path": "results"},
            "retry": {"maxAttempts": 100, "backoff": {"initial": "10ms", "max": "50ms"}},
        },
    }
    (tmp_path / "batchjob.yaml").write_text(yaml.safe_dump(manifest))
    return tmp_path


def start(folder, *options):
    command = [sys.executable, "-m", "batchyard.cli.main", "run", "batchjob.yaml", "--json", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def family(runner):
    """Return the runner and everything it started; a process may be gone by the time it is looked at."""
    try:
        found = psutil.Process(runner.pid)
        return [found, *found.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.timeout(600)
def test_no_item_is_lost_or_doubled_when_anything_is_killed_at_random_moments(folder):
    choose = random.Random(20)
    killed, runners = 0, 0
    process = start(folder)
    try:
        while True:
            try:
                out, err = process.communicate(timeout=choose.uniform(0.05, 0.9))
            except subprocess.TimeoutExpired:
                if killed == ROUNDS:
                    continue
                alive = family(process)
                victim = choose.choice(alive) if alive else None
                if victim is not None and choose.random() < 0.3:
                    victim = alive[0]
                if victim is not None:
                    os.kill(victim.pid, signal.SIGKILL)
                    killed += 1
                continue
            if process.returncode == -signal.SIGKILL:
                runners += 1
                process = start(folder, "--resume")
                continue
            if killed < ROUNDS and process.returncode == 0:  # it ended before all rounds: the same again
                check(json.loads(out), folder)
                process = start(folder)
                continue
            break
        assert process.returncode == 0, out + err
        check(json.loads(out), folder)
        assert killed == ROUNDS
        assert runners > 0
    finally:
        process.kill()
        process.communicate()


def check(told, folder):
    assert told["batches"] == {"total": ITEMS, "succeeded": ITEMS, "failed": 0, "running": 0, "pending": 0}
    assert sorted(line["result"] for line in read_results(folder / "results")) == [2 * i for i in range(ITEMS)]
