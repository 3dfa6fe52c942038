"""Real SavedModels, made once a session in a process of their own, and real model servers."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from batchyard.api.spec import Models
from batchyard.models.fetch import ready_models
from batchyard.models.serving_config import config_text
from batchyard.storage.port import StoreOptions

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class ModelServer:
    """A model server's process; `address` is where it answers gRPC, `log` what it wrote."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=UNLIMITED)

    def wait_until_ready(self, seconds: float = 120) -> "ModelServer":
        deadline = time.monotonic() + seconds
        with self.channel() as channel:
            ready = grpc.channel_ready_future(channel)
            while time.monotonic() < deadline:
                assert self.process.poll() is None, f"the server ended: {self.log.read_text()}"
                try:
                    ready.result(timeout=0.2)
                except grpc.FutureTimeoutError:
                    continue
                return self
        raise AssertionError(f"the server is not ready after {seconds} s: {self.log.read_text()}")

    def stop(self) -> int:
        """Ask it to end and return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture(scope="session")
def model_config(savedmodels: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that writes the config file of some of the SavedModels, all versions, and returns its path."""

    def write(*names: str) -> Path:
        folder = tmp_path_factory.mktemp("config")
        given = Models.model_validate({"paths": [{"name": name, "path": name} for name in names]})
        links, downloads = folder / "links", folder / "downloads"
        models = ready_models(given, folder=savedmodels, links=links, downloads=downloads, options=StoreOptions())
        file = folder / "models.config"
        file.write_text(config_text(models))
        return file

    return write


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[..., ModelServer]]:
    """A function that starts `python -m batchyard.serving.server` on a unix socket with further flags."""
    started: list[ModelServer] = []
    with tempfile.TemporaryDirectory(prefix="by", dir="/tmp") as folder:  # a socket's path must be short

        def start(*flags: str, socket: str | None = None) -> ModelServer:
            path = socket or f"{folder}/{len(started)}.sock"
            log = Path(folder) / f"{len(started)}.log"
            command = [sys.executable, "-m", "batchyard.serving.server", f"--grpc_socket_path={path}", *flags]
            with log.open("wb") as output:
                process = subprocess.Popen(command, stderr=output, stdout=output, env={**os.environ})
            started.append(ModelServer(process, f"unix:{path}", log))
            return started[-1]

        yield start
        for server in started:
            server.process.kill()
            server.process.wait()
