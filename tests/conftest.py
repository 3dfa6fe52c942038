"""Lets tests import what stands beside this file, and gives them real jobs to run workers on."""

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # importlib mode puts nothing there by itself
sys.path.append(str(Path(__file__).parents[1] / "testbed"))

import api_server as api_servers
from skip_summary import pytest_deselected, pytest_terminal_summary  # noqa: F401 - hooks
from worker_harness import WorkerJob

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in the background of a script: then every process that a test starts would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the end-to-end tests come last: they use both cores for minutes, and a broken unit is told before."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[..., WorkerJob]]:
    """Make jobs as `WorkerJob(folder, …)` does; their processes are gone after the test."""
    made: list[WorkerJob] = []

    def make(*arguments: Any, **settings: Any) -> WorkerJob:
        folder = tmp_path / f"job-{len(made)}"
        folder.mkdir()
        made.append(WorkerJob(folder, *arguments, **settings))
        return made[-1]

    yield make
    for job in made:
        job.close()


@pytest.fixture(scope="session")
def savedmodels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the SavedModels that `tests/models_for_tests.py` describes, made in a process of its own."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow: pip install 'batchyard[local]'")
    out = tmp_path_factory.mktemp("savedmodels")
    script = Path(__file__).parent / "models_for_tests.py"
    made = subprocess.run([sys.executable, script, out], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return out


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[api_servers.ApiServer]:
    """A real API server with its etcd and nothing else, one for the session."""
    if what := api_servers.missing():
        pytest.skip(what)
    with api_servers.running(tmp_path_factory.mktemp("api-server")) as server:
        yield server
