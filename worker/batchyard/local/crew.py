"""All processes of one job: made from the plan, looked after each turn, stopped together.

Apart from ``run`` so that the order of a job reads without the arguments of its processes, and so that a dry run can
use the same model server and the same installer.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from batchyard.api.errors import InvalidError
from batchyard.api.serving_flags import Listen, Version, server_arguments, server_version
from batchyard.handler.install import Request
from batchyard.local.plan import Plan
from batchyard.local.processes import Child, free_port
from batchyard.local.roles import Enqueuer, Installer, ModelServer, Reclaiming, Worker
from batchyard.local.settings import enqueue_settings, worker_settings
from batchyard.local.state import JobFolder, RunRecord, write_atomically
from batchyard.models.local import ServedModel
from batchyard.models.serving_config import config_text
from batchyard.queue.port import Halt, State
from batchyard.worker.planned import serving_settings

MODEL_SERVER = "tensorflow_model_server"
MODEL_SERVER_VARIABLE = "BATCHYARD_MODEL_SERVER"
_LONGEST_SOCKET = 100  # bytes; the kernel takes 107, macOS 103


class ModelServerMissing(InvalidError):
    """The model server that was named is not a program."""

    reason = "ModelInvalid"


def named_model_server(named: str | None) -> str | None:
    """Return the path of the ``tensorflow_model_server`` to use, None for our own server.

    ``named`` (``--model-server``), else ``BATCHYARD_MODEL_SERVER``, must be there; else the one on PATH, if any.
    """
    asked = named or os.environ.get(MODEL_SERVER_VARIABLE)
    found = shutil.which(asked or MODEL_SERVER)
    if asked and found is None:
        where = "--model-server" if named else MODEL_SERVER_VARIABLE
        raise ModelServerMissing(f"{where}: found {asked!r}, expected a program such as tensorflow_model_server")
    return found


class Crew:
    """The children of one run."""

    def __init__(
        self,
        plan: Plan,
        folder: JobFolder,
        record: RunRecord,
        models: Sequence[ServedModel],
        model_server: str | None,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._record = record
        self._models = models
        self._temporary: Path | None = None
        self._queue_url = f"sqlite:{folder.queue}"
        self.installer = self._make_installer()
        self.server = self._make_server(model_server) if models else None
        self.enqueuer = Enqueuer(self._make_enqueuer())
        self.workers: list[Worker] = []

    # --- what each one is ---
    def _child(self, name: str, argv: Sequence[str], cwd: Path | None = None) -> Child:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        return Child(name, argv, self._folder.logs / f"{name}.log", cwd=cwd or self._folder.root, env=environment)

    def _own(self, name: str, module: str, settings: Path) -> Child:
        # -P: the working directory is not importable, so no file of the user's can shadow a module of ours
        return self._child(name, [sys.executable, "-P", "-m", module, str(settings)])

    def _write(self, name: str, content: str) -> Path:
        path = self._folder.settings / name
        write_atomically(path, content.encode())
        return path

    def _make_installer(self) -> Installer | None:
        wanted = self._plan.job.spec.handler.dependencies
        if wanted is None or not (wanted.pip or wanted.shell):
            return None
        answer = self._folder.settings / "installed.json"
        request = Request(
            project=self._plan.project,
            pip=wanted.pip,
            shell=wanted.shell,
            target=self._folder.dependencies,
            answer=answer,
        )
        settings = self._write("install.json", request.model_dump_json(indent=2))
        return Installer(self._own("dependencies", "batchyard.handler.install", settings), answer)

    def _make_server(self, program: str | None) -> ModelServer:
        socket = self._folder.root / "serving.sock"
        if len(os.fsencode(socket)) > _LONGEST_SOCKET:
            self._temporary = Path(tempfile.mkdtemp(prefix="batchyard-"))
            socket = self._temporary / "serving.sock"
        config = self._write("models.config", config_text(self._models))
        if program is None:
            argv = [sys.executable, "-P", "-m", "batchyard.serving.server"]
            argv += server_arguments(config, Listen(socket=socket))
        else:
            version = _version(program)
            port = 0 if version is not None and version >= (2, 6) else free_port()  # older ones can't turn TCP off
            argv = [sys.executable, "-P", "-m", "batchyard.api.process", program]
            argv += server_arguments(config, Listen(port=port, socket=socket), version=version)
        return ModelServer(self._child("model-server", argv), f"unix:{socket}")

    def _make_enqueuer(self) -> Child:
        settings = enqueue_settings(self._plan, self._queue_url, self._record.job_id)
        return self._own("enqueuer", "batchyard.enqueue", self._write("enqueue.json", settings.model_dump_json()))

    def _make_workers(self) -> None:
        for number in range(self._plan.job.spec.workers):
            name = f"worker-{number}"
            path = self.write_worker_settings(name)
            self.workers.append(Worker(self._own(name, "batchyard.worker", path)))

    def write_worker_settings(self, name: str) -> Path:
        """Write what one worker is told and return the file. Call once dependencies are installed."""
        settings = worker_settings(
            self._plan,
            name,
            job_id=self._record.job_id,
            start_time=self._record.start_time,
            queue=self._queue_url,
            serving=serving_settings(self._models, self.server.target if self.server else ""),
            extra_paths=(self.installer.paths or []) if self.installer else [],
        )
        return self._write(f"{name}.json", settings.model_dump_json(indent=2))

    # --- each turn ---
    @property
    def is_ready_for_workers(self) -> bool:
        """Whether dependencies are installed and models loaded (workers that run stay when a server restarts)."""
        installed = self.installer is None or self.installer.paths is not None
        return installed and (self.server is None or self.server.was_ready)

    def prepare(self, now: float) -> Halt | None:
        """Look after what workers need: dependencies and model server."""
        halt = self.installer.tick() if self.installer else None
        return halt or (self.server.tick(now) if self.server else None)

    def tick(self, now: float, state: State, queue: Reclaiming) -> Halt | None:
        """Start what is to run, start again what died; return why the job has to end, if it does."""
        halt = self.enqueuer.tick(now, state) or self.prepare(now)
        if halt or not self.is_ready_for_workers:
            return halt
        if not self.workers:
            self._make_workers()
        for worker in self.workers:
            halt = worker.tick(now, state, queue)
            if halt:
                return halt
        return None

    def phase(self, state: State) -> str:
        """Return what the job is doing, for a person."""
        if self.installer and self.installer.paths is None:
            return "installing dependencies"
        if self.server and not self.server.was_ready:
            return "loading models"
        if state.sealed and state.counts.settled == state.counts.published:
            return "completing"
        return "running" if state.sealed else "enqueuing and running"

    def trouble(self) -> str:
        """Return which process is down and started again, or what the enqueuer waits for; empty when all is well."""
        if self.server and self.server.was_ready and not self.server.is_ready:
            return "the model server is being started again; predicts wait for it"
        down = [worker.child for worker in self.workers if worker.child.starts and not worker.child.is_alive]
        if down:
            return f"{down[0].name} {down[0].ending()} and is started again"
        return self.enqueuer.trouble()

    # --- the end ---
    def ask_to_stop(self) -> None:
        """Ask enqueuer and workers to finish what they have in hand; the model server stays for them."""
        if self.installer:
            self.installer.child.kill()
        self.enqueuer.child.terminate()
        for worker in self.workers:
            worker.child.terminate()

    @property
    def is_working(self) -> bool:
        """Whether the enqueuer or a worker is alive."""
        return self.enqueuer.child.is_alive or any(worker.child.is_alive for worker in self.workers)

    def kill(self) -> None:
        """End every process at once and wait for it, and take back what was made outside the job's folder."""
        for child in self._children():
            child.kill()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _children(self) -> Iterator[Child]:
        yield from (worker.child for worker in self.workers)
        yield self.enqueuer.child
        if self.installer:
            yield self.installer.child
        if self.server:
            yield self.server.child


def _version(program: str) -> Version | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return server_version(done.stdout + done.stderr)
