"""Imports the user's file; apart because running somebody's module fails in its own many ways.

The file is compiled from its text, never from a ``.pyc``: two edits within a second would leave a stale one.
"""

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import CodeType, ModuleType

from batchyard.api.errors import nearest
from batchyard.handler.errors import HandlerInvalid, user_traceback

_SKIPPED = {"__pycache__", "node_modules", "site-packages"}
_MOST_LISTED = 200  # files looked at for a suggestion: a project may hold a million data files


def load_module(project: Path, path: str) -> ModuleType:
    """Import ``path``, relative to ``project``, and return the module.

    The module's name is its dotted path (``src/handler.py`` is ``src.handler``), so that relative imports, pickling
    and ``import`` from its siblings find it; a name that something else has already taken is replaced by a private
    one. ``project`` must be on ``sys.path`` (see ``project.enter``) for the module's own imports to work.

    Raises HandlerInvalid: a path outside the project, a file that is missing, unreadable or not Python, and whatever
    the file raises while it is imported, ``sys.exit`` included.
    """
    file = find(project, path)
    code = _compile(file, project, path)
    name = _module_name(path, file)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:  # pragma: no cover - only for a suffix that find() refuses
        raise HandlerInvalid(f"{path} cannot be imported as a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 - importing the user's file is what this function is for
    except SystemExit as error:
        sys.modules.pop(name, None)
        raise HandlerInvalid(
            f"{path} ended the process by sys.exit({error.code!r}) while being imported; a handler's file only "
            "defines things: put a script's code under `if __name__ == '__main__':`.",
            user_traceback(error, project),
        ) from error
    except Exception as error:
        sys.modules.pop(name, None)
        raise _import_failed(error, project, path) from error
    return module


def find(project: Path, path: str) -> Path:
    """Return the handler's file. Raises HandlerInvalid when it is outside the project, missing or not a ``.py``.

    The check is on the path as written: a link inside the project (a mounted ConfigMap is made of them) may lead out.
    """
    if not path.strip():
        raise HandlerInvalid("handler.path is empty, expected a Python file in the project folder, like handler.py.")
    inside = os.path.normpath(path)
    if Path(inside).is_absolute() or Path(inside).parts[:1] == ("..",):
        raise HandlerInvalid(
            f"handler.path {path!r} lies outside the project folder {project}, expected a path relative to it."
        )
    file = project / inside
    if file.is_dir():
        raise HandlerInvalid(f"handler.path {path!r} is a folder, expected a Python file.{_hint(project, path)}")
    if not file.exists():
        raise HandlerInvalid(f"handler.path {path!r} does not exist in {project}.{_hint(project, path)}")
    if file.suffix != ".py":
        raise HandlerInvalid(f"handler.path {path!r} is not a Python file (.py).{_hint(project, path)}")
    return file


def _compile(file: Path, project: Path, path: str) -> CodeType:
    try:
        return compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _syntax(error, project, path) from error
    except ValueError as error:  # null bytes
        raise HandlerInvalid(f"{path} is not Python: {error}.") from error
    except OSError as error:
        raise HandlerInvalid(f"{path} cannot be read: {error.strerror}.") from error


def _syntax(error: SyntaxError, project: Path, path: str) -> HandlerInvalid:
    where = path if error.lineno is None else f"{path}, line {error.lineno}"
    return HandlerInvalid(f"{where}: {type(error).__name__}: {error.msg}.", user_traceback(error, project))


def _module_name(path: str, file: Path) -> str:
    parts = Path(os.path.normpath(path)).with_suffix("").parts
    name = ".".join(parts)
    taken = sys.modules.get(name)
    is_ours = taken is not None and getattr(taken, "__file__", None) == str(file)
    if all(part.isidentifier() for part in parts) and (taken is None or is_ours):
        return name
    return "batchyard_user_" + re.sub(r"\W", "_", name)


def _import_failed(error: Exception, project: Path, path: str) -> HandlerInvalid:
    detail = user_traceback(error, project)
    if isinstance(error, SyntaxError) and error.filename:  # of a file that the handler imports
        return _syntax(error, project, _shown(error.filename, project))
    where = path
    line = _deepest_line(error, str(project / os.path.normpath(path)))
    if line is not None:
        where = f"{path}, line {line}"
    said = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
    return HandlerInvalid(f"{where}: importing it raised {what.rstrip('.')}.{_missing(error, project, path)}", detail)


def _deepest_line(error: BaseException, filename: str) -> int | None:
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _missing(error: Exception, project: Path, path: str) -> str:
    """Say what to do about a module that is not there."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    top = error.name.partition(".")[0]
    folder = Path(os.path.normpath(path)).parent
    if folder.parts and ((project / folder / f"{top}.py").is_file() or (project / folder / top).is_dir()):
        package = ".".join(folder.parts)
        return (
            f" {folder}/{top} is there, but it is the project folder that is on sys.path, not {folder}: "
            f"write `from {package} import {top}`."
        )
    return " Name the package that holds it in handler.dependencies.pip, or add the file to the project."


def _shown(filename: str, project: Path) -> str:
    try:
        return str(Path(filename).relative_to(project))
    except ValueError:
        return filename


def _hint(project: Path, path: str) -> str:
    """Say which Python files the project holds, the nearest first."""
    files = _python_files(project)
    if not files:
        return f" There is no .py file in {project}."
    near = nearest(path, files) or next((f for f in files if Path(f).name == Path(path).name), None)
    if near:
        return f" Did you mean {near!r}?"
    return f" Its Python files are: {', '.join(files[:10])}{', …' if len(files) > 10 else ''}."


def _python_files(project: Path) -> list[str]:
    found: list[str] = []
    seen = 0
    for folder, folders, files in os.walk(project):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not f.startswith("."))
        for file in sorted(files):
            seen += 1
            if file.endswith(".py"):
                found.append(str((Path(folder) / file).relative_to(project)))
        if seen > 50 * _MOST_LISTED or len(found) > _MOST_LISTED:
            break
    return found
