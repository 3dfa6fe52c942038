"""A job in a folder of its own, run by the real command in a real process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest
import yaml
from batchyard.queue.port import State
from batchyard.queue.sqlite import SqliteQueue

COMMAND = [sys.executable, "-m", "batchyard.cli.main"]
RECORDING = """
    import os, time
    class Handler:
        def __init__(self, config):
            self.config = config
        def handle_batch(self, payload):
            with open("started", "a") as f:
                f.write(f"{payload[0]}\\n")
            time.sleep(self.config.get("seconds", 0))
            if payload[0] in self.config.get("bad", []):
                raise ValueError(f"item {payload[0]} is bad")
            with open("finished", "a") as f:
                f.write(f"{payload[0]}\\n")
            return payload
"""
"""Notes the first item of each batch when it starts and when it is done."""


@dataclass
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@dataclass
class Job:
    """A manifest and its handler in `folder`."""

    folder: Path
    name: str = "job"
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.folder / "batchjob.yaml"

    @property
    def state_folder(self) -> Path:
        return self.folder / ".batchyard" / self.name

    def write(self, code: str | None = RECORDING, /, **spec: Any) -> "Job":
        """Write handler.py, and a manifest with five items, `spec` merged over it by its top fields."""
        if code is not None:
            (self.folder / "handler.py").write_text(dedent(code))
        default: dict[str, Any] = {
            "handler": {"type": "python", "path": "handler.py"},
            "input": {"items": [0, 1, 2, 3, 4], "batchSize": 1},
            "retry": {"maxAttempts": 2, "backoff": {"initial": "10ms", "max": "10ms"}},
        }
        manifest = {
            "apiVersion": "batchyard.dev/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": self.name},
            "spec": default | spec,
        }
        self.manifest.write_text(yaml.safe_dump(manifest))
        return self

    def start(self, *options: object, **popen: Any) -> subprocess.Popen[str]:
        """Start `batchyard run`; what is left of it is killed at the end of the test."""
        command = [*COMMAND, "run", str(self.manifest), *map(str, options)]
        popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | popen
        process = subprocess.Popen(command, cwd=self.folder, **popen)
        self.processes.append(process)
        return process

    def run(self, *options: object, **popen: Any) -> Ran:
        return ended(self.start(*options, **popen))

    def run_json(self, *options: object) -> dict[str, Any]:
        ran = self.run("--json", *options)
        assert ran.out, ran.err
        return ran.json

    def state(self) -> State:
        with closing(SqliteQueue.open(self.state_folder / "queue.db")) as queue:
            return queue.state()

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def children(self, module: str) -> list[psutil.Process]:
        """Return the processes of this job, by the module they run."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if module in line and str(self.state_folder) in line:
                found.append(process)
        return found


def ended(process: subprocess.Popen[str], seconds: float = 120) -> Ran:
    out, err = process.communicate(timeout=seconds)
    return Ran(process.returncode, out or "", err or "")


def wait_until(
    condition: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 60
) -> None:
    """Wait for something that a process is about to do."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()}")
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def finish() -> Callable[..., Ran]:
    return ended


@pytest.fixture
def batchyard(tmp_path: Path) -> Callable[..., Ran]:
    """Run any `batchyard` command in `tmp_path`."""

    def command(*arguments: object) -> Ran:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return command


@pytest.fixture
def kill_hard() -> Callable[[int], None]:
    return lambda pid: os.kill(pid, signal.SIGKILL)
