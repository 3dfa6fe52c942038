"""Real worker processes over a real queue file: what the worker's tests drive.

A `WorkerJob` is a folder with a handler, a settings file a worker and `queue.db`; nothing of it is a stand-in.
"""

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchyard.api.messages import Header, encode
from batchyard.queue.port import FailedBatch, State
from batchyard.queue.sqlite import SqliteQueue

PATIENCE = 60.0  # seconds that anything a test waits for may take on a busy machine


@dataclass(frozen=True)
class Ended:
    """How a worker process ended: exit code, log lines (parsed), and what it wrote outside of its log."""

    code: int
    log: list[dict[str, Any]]
    stderr: str

    def messages(self, batch: int | None = None, level: str | None = None) -> list[str]:
        """Return the texts of the log, of one batch or level if given."""
        return [
            line["message"]
            for line in self.log
            if (batch is None or line.get("batch") == batch) and (level is None or line["level"] == level)
        ]


class RunningWorker:
    """One `python -m batchyard.worker` process."""

    def __init__(self, settings: Path, arguments: Sequence[str] = ()) -> None:
        self._log = settings.with_suffix(".log")
        self._err = settings.with_suffix(".err")
        with self._log.open("ab") as out, self._err.open("ab") as err:
            command = [sys.executable, "-m", "batchyard.worker", *arguments, str(settings)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        self.pid = self.process.pid

    def wait(self, timeout: float = PATIENCE) -> Ended:
        """Return how it ended; one that does not end is killed and fails the test with its log."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the worker did not end:\n{self._log.read_text()[-4000:]}") from None
        return Ended(code, self.log(), self._err.read_text(errors="replace"))

    def log(self) -> list[dict[str, Any]]:
        """Return the whole lines of its log."""
        lines = self._log.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) if line.startswith(b"{") else {"message": line.decode()} for line in lines]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, then reap."""
        self.process.kill()
        self.process.wait()

    def handler_pids(self) -> list[int]:
        """Return the pids of its handler processes, as the kernel knows them."""
        return [pid for pid in children_of(self.pid) if b"batchyard.worker.child" in command_of(pid)]


class WorkerJob:
    """A job in ``folder``: ``batches`` are lists of items; `settings` are those of each worker unless overridden."""

    def __init__(
        self,
        folder: Path,
        source: str,
        batches: Sequence[Sequence[Any]] = (),
        *,
        bodies: Sequence[bytes] | None = None,
        sealed: bool = True,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.path = folder / "queue.db"
        self.queue = SqliteQueue.create(self.path)
        (folder / "project").mkdir()
        (folder / "project" / "handler.py").write_text(textwrap.dedent(source))
        self._settings = settings
        self._workers: list[RunningWorker] = []
        self.publish(batches if bodies is None else [], bodies)
        if sealed:
            self.seal()

    def publish(self, batches: Sequence[Sequence[Any]], bodies: Sequence[bytes] | None = None) -> None:
        """Publish more batches, each one item list, or as the bytes that a message is."""
        held = self.queue.position().published
        if bodies is None:
            bodies = [
                encode(Header(held + i, len(batch)), json.dumps(list(batch)).encode())
                for i, batch in enumerate(batches)
            ]
        for start in range(0, len(bodies), 1000):
            self.queue.publish(held + start, bodies[start : start + 1000])

    def seal(self) -> None:
        held = self.queue.position().published
        self.queue.seal(held, held)

    def settings_file(self, worker: str, **overrides: Any) -> Path:
        """Write a worker's settings; nested values (``handler``) are merged one level deep."""
        values: dict[str, Any] = {
            "job_id": "job-1",
            "job_name": "job",
            "worker": worker,
            "queue": f"sqlite:{self.path}",
            "retry": {"max_attempts": 3, "backoff_initial": 0.05},
        }
        values |= self._settings | overrides
        values["handler"] = {
            "type": "python",
            "project": str(self.folder / "project"),
            "path": "handler.py",
            **values.get("handler", {}),
        }
        path = self.folder / f"{worker}.json"
        path.write_text(json.dumps(values))
        return path

    def start(self, worker: str = "worker-0", *arguments: str, **overrides: Any) -> RunningWorker:
        """Start a worker process."""
        started = RunningWorker(self.settings_file(worker, **overrides), arguments)
        self._workers.append(started)
        return started

    def run(self, worker: str = "worker-0", *arguments: str, **overrides: Any) -> Ended:
        """Start a worker and wait for its end."""
        return self.start(worker, *arguments, **overrides).wait()

    @property
    def state(self) -> State:
        return self.queue.state()

    def failed(self) -> dict[int, FailedBatch]:
        return {batch.index: batch for batch in self.queue.failed()}

    def lines(self, name: str) -> list[str]:
        """Return the lines that handlers appended to a file of the project."""
        file = self.folder / "project" / name
        return file.read_text().splitlines() if file.exists() else []

    def wait_for_line(self, name: str, line: str) -> None:
        """Wait until a handler appended ``line``."""
        wait_until(lambda: line in self.lines(name), f"{line!r} in {name}")

    def close(self) -> None:
        """Kill what still runs, close the queue."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()
        self.queue.close()


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until ``is_so()`` is true; fail with ``what`` when it never is."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process, by /proc."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def command_of(pid: int) -> bytes:
    """Return the command line of a process, empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
