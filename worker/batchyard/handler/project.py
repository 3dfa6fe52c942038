"""Makes a process stand in the user's project: working directory, import path, environment.

Apart from loading because these three change the whole process: it is for handler processes, never for a library's
caller.
"""

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from batchyard.handler.errors import HandlerInvalid


def enter(project: Path, env: Mapping[str, str], extra_paths: Iterable[Path]) -> None:
    """Make ``project`` the working directory and first on ``sys.path``, then set the environment.

    ``sys.path`` becomes the project, ``extra_paths`` (installed dependencies: the user's versions come before
    Batchyard's), then what was there. A variable's value is that of ``env`` (the manifest), else the one the process
    already has, else that of the project's ``.env``: as in a pod, where ``env`` replaces what the image sets.

    Raises HandlerInvalid when the folder is missing or ``.env`` cannot be read.
    """
    project = Path(os.path.abspath(project))  # noqa: PTH100 - links stay as written, as the tracebacks will show them
    first = [str(project), *(os.path.abspath(p) for p in extra_paths)]  # noqa: PTH100 - as above
    try:
        os.chdir(project)
    except OSError as error:
        raise HandlerInvalid(f"the project folder {project} cannot be entered: {error.strerror}.") from error
    sys.path[:] = first + [entry for entry in sys.path if entry not in first]
    importlib.invalidate_caches()
    for name, value in read_dotenv(project).items():
        if name not in os.environ:
            _set(name, value, ".env")
    for name, value in env.items():
        _set(name, value, "handler.env")


def read_dotenv(project: Path) -> dict[str, str]:
    """Return the variables of ``project/.env``, empty when there is no such file (a folder of that name is a venv).

    ``${NAME}`` in a value is replaced from the environment and the lines above. A name without ``=`` sets nothing.
    Raises HandlerInvalid naming the line that is not ``NAME=value``.
    """
    file = project / ".env"
    if not file.is_file():
        return {}
    from dotenv.main import DotEnv
    from dotenv.parser import parse_stream

    try:
        with file.open(encoding="utf-8") as lines:
            for binding in parse_stream(lines):
                if binding.error:
                    text = binding.original.string.strip()
                    raise HandlerInvalid(f".env, line {binding.original.line}: found {text!r}, expected NAME=value.")
        values = DotEnv(file, encoding="utf-8", override=False).dict()  # in ${NAME} too the process comes first
        return {name: value for name, value in values.items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise HandlerInvalid(f".env cannot be read: {error}.") from error


def _set(name: str, value: str, source: str) -> None:
    try:
        os.environ[name] = value
    except (ValueError, OSError) as error:  # a null byte, an empty name, "=" in a name
        raise HandlerInvalid(f"{source}: the variable {name!r} cannot be set: {error}.") from error
