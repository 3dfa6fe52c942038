"""The children by their part in a job: when each starts, what its end means, when it is given up.

Each ``tick`` looks at the world once and acts at once; a returned Halt is the job's end, which the runner writes to
the queue. Apart from ``run``, which knows the order of a whole job but not what an exit code means.
"""

import contextlib
import json
import time
from pathlib import Path
from typing import Protocol

from batchyard.handler.install import Answer
from batchyard.local.processes import Child, accepts
from batchyard.local.restarts import Restarts
from batchyard.queue.port import Halt, State

_SAYS = "model server: "  # what our own server puts before each sentence of a refusal

_STALE = 60.0  # seconds after which a warning is no news: one that lasts is repeated

INVALID_EXIT = 64
"""Exit code of a child that refuses what the user wrote; what it wrote last says why."""


class Reclaiming(Protocol):
    """The part of the SQLite engine that takes back the leases of a worker known to be dead."""

    def reclaim(self, owner: str | None) -> int:
        """Give back what ``owner`` (None: anybody) holds; return how many batches."""
        ...


class Installer:
    """Installs the handler's dependencies once, while the server loads and the input is enqueued."""

    def __init__(self, child: Child, answer: Path) -> None:
        self.child = child
        self.paths: list[Path] | None = None
        self._answer = answer

    def tick(self) -> Halt | None:
        """Start, or look whether it is done; ``paths`` is set then."""
        if self.paths is not None or self.child.is_alive:
            return None
        if self.child.starts == 0:
            self._answer.unlink(missing_ok=True)
            self.child.start()
            return None
        self.child.kill()
        answer = Answer.model_validate_json(self._answer.read_bytes()) if self._answer.exists() else None
        if answer is not None and answer.refused is None:
            self.paths = answer.paths
            return None
        if answer is not None and answer.refused:
            return Halt("HandlerInvalid", answer.refused)
        said = "\n".join(self.child.last_lines(15)) or "it wrote nothing"
        return Halt("HandlerInvalid", f"installing the dependencies {self.child.ending()}:\n{said}")


class ModelServer:
    """Keeps the model server up. It listens at ``target`` once its models are loaded, and is ready then."""

    def __init__(self, child: Child, target: str) -> None:
        self.child = child
        self.target = target
        self.is_ready = False
        self.was_ready = False
        self._restarts = Restarts(limit=5)

    def tick(self, now: float) -> Halt | None:
        """Start it, see whether it is ready, start it again in place when it died."""
        if self.child.is_alive:
            if not self.is_ready and accepts(self.target):
                self.is_ready = self.was_ready = True
                self._restarts.worked()
            return None
        if self.child.starts > 0 and not self._restarts.is_waiting:
            halt = self._died(now)
            if halt:
                return halt
        if self._restarts.take(now):
            self._start()
        return None

    def _start(self) -> None:
        if self.target.startswith("unix:"):
            with contextlib.suppress(FileNotFoundError):
                Path(self.target.removeprefix("unix:")).unlink()
        self.child.start()

    def _died(self, now: float) -> Halt | None:
        self.child.kill()
        self.is_ready = False
        code = self.child.exit_code or 0
        # one death of a server that worked: no reason to wait
        go_on = self._restarts.died(now, at_once=self.was_ready and self._restarts.in_a_row == 0)
        if not go_on or (not self.was_ready and code > 0):
            refusal = [line.removeprefix(_SAYS) for line in self.child.last_lines(200) if line.startswith(_SAYS)]
            if refusal:
                return Halt("ModelInvalid", "\n".join(refusal[-10:]))
            said = "\n".join(self.child.last_lines(8)) or "it wrote nothing"
            return Halt("ModelInvalid", f"the model server {self.child.ending()} while loading the models:\n{said}")
        return None


class Enqueuer:
    """Runs the enqueuer until the queue is sealed; it goes on where the queue says it stopped."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._restarts = Restarts(limit=6)
        self._published = -1
        self._sealed = False

    def tick(self, now: float, state: State) -> Halt | None:
        """Start it, or again when it died before the queue was sealed."""
        self._sealed = state.sealed
        if state.sealed or self.child.is_alive:
            return None
        if state.counts.published != self._published:
            self._published = state.counts.published
            self._restarts.worked()
        if self.child.starts > 0 and not self._restarts.is_waiting:
            self.child.kill()
            code = self.child.exit_code
            if code == INVALID_EXIT:
                said = "\n".join(self.child.last_lines(1)) or "the input is invalid"
                return Halt("InputInvalid", said)
            if not self._restarts.died(now):
                said = "\n".join(self.child.last_lines(8))
                return Halt("WorkersFailed", f"the enqueuer {self.child.ending()} again and again: {said}")
        if self._restarts.take(now):
            self.child.start()
        return None

    def trouble(self) -> str:
        """Return what it waits for, when the newest line of its log warns of it; empty when nothing is known."""
        if self._sealed or not self.child.is_alive:
            return ""
        for line in self.child.last_lines(1):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                said = json.loads(line)
                if said["level"] == "WARNING" and time.time() - said["time"] < _STALE:
                    return str(said["message"])
        return ""


class Worker:
    """Keeps one worker up until the job is over."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._restarts = Restarts(limit=5)
        self._settled = -1

    def tick(self, now: float, state: State, queue: Reclaiming) -> Halt | None:
        """Start it; when it died, take its leases back and start it again."""
        if self.child.is_alive:
            return None
        if state.counts.settled != self._settled:
            self._settled = state.counts.settled
            self._restarts.worked()
        if self.child.starts > 0 and not self._restarts.is_waiting:
            self.child.kill()
            queue.reclaim(self.child.name)
            code = self.child.exit_code
            if code == INVALID_EXIT:
                return Halt("HandlerInvalid", "\n".join(self.child.last_lines(15)) or "the handler is invalid")
            if not self._restarts.died(now):
                said = "\n".join(self.child.last_lines(8)) or "it wrote nothing"
                return Halt(
                    "WorkersFailed",
                    f"{self.child.name} {self.child.ending()} {self._restarts.in_a_row} times in a row "
                    f"with no batch settled between; its log {self.child.log} ends with:\n{said}",
                )
        if self._restarts.take(now):
            self.child.start()
        return None
