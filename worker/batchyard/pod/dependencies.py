"""The handler's dependencies in a pod: installed on the shared volume, by a child that ends with this process."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from batchyard.api.errors import BatchyardError
from batchyard.handler.errors import HandlerInvalid
from batchyard.handler.install import Answer, Request
from batchyard.pod import stopping
from batchyard.pod.told import Told
from batchyard.worker.core import death

_PAUSES = (2.0, 10.0)  # seconds before the second and the third try: an index that is away must not fail the job


class InstallDied(BatchyardError):
    """The install ended without a word; another pod may do better."""


def ready_dependencies(told: Told, project: Path, say: Callable[[str, str], None]) -> list[Path]:
    """Install ``handler.dependencies`` and return the folders to put on ``sys.path``; installing again does nothing.

    Raises HandlerInvalid when pip or the script fails again and again, InstallDied.
    """
    wanted = told.job.spec.handler.dependencies
    if wanted is None or not (wanted.pip or wanted.shell):
        return []
    ours = told.places.ours
    request = Request(
        project=project,
        pip=wanted.pip,
        shell=wanted.shell,
        target=told.places.dependencies,
        answer=ours / "installed.json",
    )
    file = ours / "install.json"
    file.write_text(request.model_dump_json(), encoding="utf-8")
    pauses = list(_PAUSES)
    while (answer := _install(file, request.answer)).refused is not None:
        if not pauses:
            raise HandlerInvalid(answer.refused)
        say("WARNING", f"the dependencies could not be installed, trying again: {answer.refused}")
        time.sleep(pauses.pop(0))
    return answer.paths


def _install(request: Path, answer: Path) -> Answer:
    answer.unlink(missing_ok=True)
    # -P: the working directory is not importable, so no file of the user's can shadow a module of ours
    command = [sys.executable, "-P", "-m", "batchyard.handler.install", str(request)]
    code = stopping.run(command)
    if not answer.exists():
        raise InstallDied(f"installing the dependencies {death(code)}; its output is above.")
    return Answer.model_validate_json(answer.read_bytes())
