"""Lets tests import what stands beside this file, and gives them real jobs to run workers on."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # importlib mode puts nothing there by itself

from worker_harness import WorkerJob


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
