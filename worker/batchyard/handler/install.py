"""``python -m batchyard.handler.install REQUEST.json``: installs a handler's dependencies in a process of its own.

A process, because pip takes minutes in which the runner must go on drawing, and because it can be killed with all
that a user's script has started.
"""

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from batchyard.api.errors import InvalidError
from batchyard.api.process import die_with_parent
from batchyard.handler.dependencies import install

_INVALID = 64


class Request(BaseModel):
    """What to install: ``pip`` and ``shell`` as in the manifest, into ``target``; the answer goes to ``answer``."""

    model_config = ConfigDict(frozen=True)

    project: Path
    pip: str | list[str] | None
    shell: str | None
    target: Path
    answer: Path


class Answer(BaseModel):
    """The folders to put on ``sys.path``, or why nothing was installed."""

    paths: list[Path] = []
    refused: str | None = None


def main(arguments: list[str]) -> int:
    """Install, write the answer, return the exit code."""
    die_with_parent()
    request = Request.model_validate_json(Path(arguments[0]).read_bytes())
    try:
        paths = install(request.project, request.pip, request.shell, request.target, _say)
    except InvalidError as error:
        _answer(request, Answer(refused=str(error)))
        return _INVALID
    _answer(request, Answer(paths=paths))
    return 0


def _answer(request: Request, answer: Answer) -> None:
    """Write the answer whole or not at all; a request without one is asked again."""
    fresh = request.answer.with_name(request.answer.name + ".new")
    fresh.write_text(answer.model_dump_json(), encoding="utf-8")
    fresh.replace(request.answer)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
