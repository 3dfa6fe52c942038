"""SIGTERM in a pod's short-lived containers: the process ends at once, with whatever it has started.

All they do can be cut at any line and done again, so nothing is tidied up. Apart because a signal handler is state of
the whole process.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from batchyard.api.process import parent_death_env

TERMINATED = 143

_running: list[int] = []  # process groups


def end_on_signals() -> None:
    """End with 143 on SIGTERM and SIGINT. As a container's first process there is no default that would."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end())


def run(command: Sequence[str]) -> int:
    """Run a program in a process group of its own, which ends with this process; return its exit code."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env={**os.environ, **parent_death_env()}, start_new_session=True
    )
    _running.append(process.pid)
    try:
        return process.wait()
    finally:
        _kill(process.pid)  # what a user's script left behind
        _running.remove(process.pid)


def _end() -> None:
    for group in _running:
        _kill(group)
    os._exit(TERMINATED)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
