"""The command around the model server, run by real shells with a server that ignores SIGTERM, as TF Serving does."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from render_cases import containers_of, pod_of, tensorflow

SHELLS = [shell for shell in ("/bin/sh", "/bin/bash", "/bin/dash") if Path(shell).exists()]
SERVER = """\
#!{python}
import json, os, signal, sys, time
from pathlib import Path
here = Path({folder!r})
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(here / "begun.tmp").write_text(json.dumps([os.getpid(), os.umask(0), sys.argv[1:]]))
(here / "begun.tmp").rename(here / "begun")
{then}
"""


@pytest.fixture(params=SHELLS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start the rendered command with a server that does `then` once it has begun; nothing is left after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(then: str) -> subprocess.Popen[bytes]:
        program = tmp_path / "tensorflow_model_server"
        program.write_text(SERVER.format(python=sys.executable, folder=str(tmp_path), then=then))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        _, *rest = containers_of(pod_of(tensorflow()))["serving"]["command"]
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        started.append(subprocess.Popen([request.param, *rest], env=environment, start_new_session=True))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def begun(folder: Path) -> tuple[int, int, list[str]]:
    """Wait for the server and return its process id, file mode mask and arguments."""
    deadline = time.monotonic() + 30
    while not (folder / "begun").exists():
        assert time.monotonic() < deadline, "the server has not begun"
        time.sleep(0.02)
    pid, mask, arguments = json.loads((folder / "begun").read_text())
    return pid, mask, arguments


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_sigterm_ends_a_server_that_ignores_it(
    start: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = start("time.sleep(600)")
    pid, _, _ = begun(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("then", "code"),
    [
        pytest.param("sys.exit(3)", 3, id="an error"),
        pytest.param("sys.exit(0)", 0, id="no error"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", 137, id="out of memory"),
    ],
)
def test_the_servers_own_end_is_that_of_the_container(
    start: Callable[[str], subprocess.Popen[bytes]], then: str, code: int
) -> None:
    assert start(then).wait(30) == code


def test_the_server_gets_its_flags_and_a_mask_that_lets_the_group_connect(
    start: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    start("time.sleep(600)")
    _, mask, arguments = begun(tmp_path)
    assert mask == 0o002
    assert arguments[0] == "--model_config_file=/mnt/.batchyard/models.config"
    assert "--grpc_socket_path=/mnt/.batchyard/serving.sock" in arguments
