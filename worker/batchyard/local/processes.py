"""One child of ``batchyard run``: started in its own session, its output in a file, ended by its whole group.

Apart from ``roles``, which say what is to be done about a child that ended. Output goes straight to a log file that
the runner reads along: a child never waits for the runner, and what it wrote is there when the runner is gone.
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from batchyard.api.process import parent_death_env

_TAIL_BYTES = 64 * 1024


class Child:
    """A process that may be started again after it ended. Start it from the main thread, which lasts longest."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, *, cwd: Path, env: dict[str, str]) -> None:
        self.name = name
        self.log = log
        self.starts = 0
        self._argv = list(argv)
        self._cwd = cwd
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._group_gone = True

    def start(self) -> None:
        """Start the process, its stdout and stderr appended to the log."""
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env=self._env | parent_death_env(),
                start_new_session=True,
            )
        self.starts += 1
        self._group_gone = False

    @property
    def pid(self) -> int | None:
        """The pid of the process that was started last."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Whether a process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative: the signal) of the last start; None before it ended."""
        return self._process.poll() if self._process else None

    def terminate(self) -> None:
        """Ask the process, not its children, to end (SIGTERM)."""
        if self._process and self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """Kill what is left of the process and its group, also when the process itself has ended, and reap it.

        Once a start: much later its group's number may be somebody else's.
        """
        if self._process and not self._group_gone:
            self._group_gone = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines that are not empty of what the last start wrote."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
            return [line.rstrip() for line in lines if line.strip()][-count:]
        return []

    def ending(self) -> str:
        """Return how the process ended, as the predicate of a sentence."""
        code = self.exit_code
        if code is None:
            return "is running"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"was killed by {name}{hint}"


def accepts(target: str) -> bool:
    """Return whether something listens at ``unix:/path`` or ``host:port``."""
    if target.startswith("unix:"):
        family, address = socket.AF_UNIX, target.removeprefix("unix:")
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            return probe.connect_ex(address) == 0
    host, _, port = target.rpartition(":")
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((host, int(port))) == 0


def free_port() -> int:
    """Return a loopback TCP port that is free now."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
