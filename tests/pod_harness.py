"""The containers of a job's pods as real processes, each pod with a folder of its own as its root, over a real NATS.

What a node would do is done by the test: it starts a pod's containers in their order, kills them, starts them again.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

from batchyard.api.podfile import POD_INDEX, POD_NAME
from batchyard.api.serving_flags import Listen, server_arguments
from batchyard.queue.jetstream import JetStreamQueue
from batchyard.queue.port import State
from nats_server import NatsServer

PATIENCE = 60.0
LEASE = 2.0
HANDLER = """
    class Handler:
        def __init__(self, config):
            pass
        def handle_batch(self, payload):
            return [item * 2 for item in payload]
"""


@dataclass(frozen=True)
class Ended:
    """How a container ended. ``word``: its termination message."""

    code: int
    out: str
    word: str

    @property
    def last_line(self) -> str:
        return self.out.strip().splitlines()[-1]


class Container:
    """One process of a pod, in a process group of its own."""

    def __init__(self, command: list[str], pod: "Pod", name: str) -> None:
        self._log = pod.root / f"{name}-{len(list(pod.root.glob(f'{name}-*.log')))}.log"
        self._word = self._log.with_suffix(".word")
        self._word.touch()
        environment = {
            **os.environ,
            POD_NAME: pod.name,
            "BATCHYARD_TERMINATION_LOG": str(self._word),
            "PYTHONUNBUFFERED": "1",
        }
        if pod.index is not None:
            environment[POD_INDEX] = str(pod.index)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=pod.root / "mnt",
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self) -> Ended:
        """Return how it ended; one that does not end fails the test with what it wrote."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the container did not end:\n{self.out[-4000:]}") from None
        return Ended(code, self.out, self._word.read_text())

    def terminate(self) -> None:
        """As a node does: the container's first process alone is told."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the container and all that runs in it, as a node does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Pod:
    """A pod's root: ``etc/batchyard/job.json`` and ``mnt``. ``index``: the worker's, None for the enqueuer."""

    def __init__(self, root: Path, index: int | None, told: dict[str, Any]) -> None:
        self.root, self.index = root, index
        self.name = f"job-workers-{index}-x" if index is not None else "job-enqueuer-x"
        self.containers: list[Container] = []
        (root / "mnt").mkdir(parents=True)
        (root / "etc" / "batchyard").mkdir(parents=True)
        (root / "etc" / "batchyard" / "job.json").write_text(json.dumps(told))

    @property
    def mnt(self) -> Path:
        return self.root / "mnt"

    @property
    def settings(self) -> dict[str, Any]:
        """What its worker starts from."""
        return json.loads((self.mnt / ".batchyard" / "worker.json").read_text())

    def _start(self, name: str, *command: str) -> Container:
        self.containers.append(Container([sys.executable, "-P", "-m", *command], self, name))
        return self.containers[-1]

    def fetch(self) -> Container:
        return self._start("fetch", "batchyard.pod", "fetch", "--root", str(self.root))

    def enqueue(self) -> Container:
        return self._start("enqueue", "batchyard.pod", "enqueue", "--root", str(self.root))

    def worker(self) -> Container:
        return self._start("worker", "batchyard.worker", str(self.mnt / ".batchyard" / "worker.json"))

    def serving(self) -> Container:
        """Start our model server as the operator starts TF Serving, and wait until its socket is there."""
        ours = self.mnt / ".batchyard"
        flags = server_arguments(ours / "models.config", Listen(socket=ours / "serving.sock"))
        server = self._start("serving", "batchyard.serving.server", *flags)
        wait_until(lambda: (ours / "serving.sock").exists() or server.process.poll() is not None, "the model server")
        assert server.process.poll() is None, server.out
        return server


class Job:
    """A BatchJob with a queue of its own; ``spec`` is the manifest's."""

    def __init__(self, folder: Path, server: NatsServer, spec: dict[str, Any], *, name: str = "job") -> None:
        self.folder, self.name = folder, name
        self.id = uuid4().hex
        self.url = f"{server.address}/bj-{self.id}"
        self.queue = JetStreamQueue.create(self.url, lease=LEASE)
        self._manifest = {
            "apiVersion": "batchyard.dev/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": name, "namespace": "team", "uid": self.id},
            "spec": spec,
        }
        self.pods: list[Pod] = []

    def pod(self, index: int | None, *, drain: float = 5.0) -> Pod:
        """Make a pod of the job; it runs nothing yet."""
        told = {
            "job": self._manifest,
            "job_id": self.id,
            "queue": self.url,
            "start_time": 1_700_000_000.0,
            "drain": drain,
            "lease": LEASE,
        }
        self.pods.append(Pod(self.folder / f"pod-{len(self.pods)}", index, told))
        return self.pods[-1]

    @property
    def state(self) -> State:
        return self.queue.state()

    @property
    def halt(self) -> tuple[str, str]:
        """Reason and message of the halt."""
        halt = self.state.halt
        assert halt is not None
        return halt.reason, halt.message

    def close(self) -> None:
        for pod in self.pods:
            for container in pod.containers:
                container.kill()
        self.queue.close()


MakeJob = Callable[..., Job]


def inline(source: str = HANDLER, **more: Any) -> dict[str, Any]:
    """Return a ``spec.handler`` with the handler's file in the manifest."""
    return {"type": "python", "path": "handler.py", "project": {"inline": {"handler.py": dedent(source)}}, **more}


def results(output: Path) -> list[Any]:
    """Return the results that lie in an output folder, in the order of the input."""
    parts = sorted((output / "parts").glob("*/part-*.jsonl"))
    return [json.loads(line)["result"] for part in parts for line in part.read_text().splitlines()]


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until ``is_so()`` is true; fail with ``what`` when it never is."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.02)
