"""Installs what the handler needs, once: a shell script, then pip requirements into a folder of their own.

Apart from loading because it runs other programs and must stand being killed at any moment: requirements go into a
temporary folder that is renamed when pip is done, so a folder that is there is whole; a script's stamp is written
after it succeeded, so an interrupted script runs again (and should be one that can).
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from batchyard.api.errors import nearest
from batchyard.handler.errors import HandlerInvalid

_LAST_LINES = 20
_NEVER_DIGESTED = {"__pycache__", "build"}  # what a build leaves in the sources of a local package


def install(
    project: Path,
    pip: str | Sequence[str] | None,
    shell: str | None,
    target: Path,
    log: Callable[[str], None],
) -> list[Path]:
    """Run the script ``shell``, then install ``pip``; return the folders to put on ``sys.path``.

    ``pip``: a requirements file, or a list of requirements (lines of such a file); ``shell``: a script for bash, or
    sh where there is no bash. Both paths are relative to ``project``, which is the working directory of both; so are
    the local paths among the requirements. What is installed is kept below ``target`` under a digest of the
    requirements, this Python and the files of local packages: installing again does nothing. Several processes may
    call this at once.

    Each line of output goes to ``log``. Raises HandlerInvalid: a file that is missing, a command that failed.
    """
    if not pip and not shell:
        return []
    project, target = (Path(os.path.abspath(p)) for p in (project, target))  # noqa: PTH100 - links stay as written
    target.mkdir(parents=True, exist_ok=True)
    with _locked(target) as lock:
        if shell:
            _run_script(project, shell, target, log)
        return [_install_pip(project, pip, target, log, lock)] if pip else []


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[int]:
    """Hold the folder's lock. pip inherits the descriptor: one that outlives a killed parent still holds it.

    A script does not: it may leave a daemon behind, which would hold the lock for good.
    """
    lock = os.open(target / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _run_script(project: Path, shell: str, target: Path, log: Callable[[str], None]) -> None:
    script = _file(project, shell, "handler.dependencies.shell", "*.sh")
    stamp = target / f"shell-{_digest([shell.encode(), script.read_bytes()])}"
    if stamp.exists():
        return
    program = shutil.which("bash") or shutil.which("sh")
    if program is None:
        raise HandlerInvalid(f"handler.dependencies.shell: {shell} cannot run: neither bash nor sh is on PATH.")
    _run([program, str(script)], project, f"handler.dependencies.shell: {shell}", log)
    stamp.touch()


def _install_pip(
    project: Path, pip: str | Sequence[str], target: Path, log: Callable[[str], None], lock: int
) -> Path:
    if isinstance(pip, str):
        requirements = _file(project, pip, "handler.dependencies.pip", "*.txt")
        name = pip
    else:
        requirements = target / ".requirements.txt"
        requirements.write_text("\n".join(pip) + "\n", encoding="utf-8")
        name = "the list of requirements"
    done = target / f"pip-{_digest(_inputs(project, requirements))}"
    if done.is_dir():
        return done
    for left in target.glob(".installing-*"):  # of a run that was killed: the lock is ours, so nobody writes there
        shutil.rmtree(left)
    fresh = Path(tempfile.mkdtemp(prefix=".installing-", dir=target))
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--no-warn-script-location", "--target", str(fresh), "--requirement", str(requirements)]
    try:
        _run(command, project, f"handler.dependencies.pip: pip install of {name}", log, lock)
        fresh.chmod(0o755)
        fresh.rename(done)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return done


def _run(command: list[str], project: Path, what: str, log: Callable[[str], None], *inherited: int) -> None:
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        command,
        cwd=project,
        env={**os.environ, "PIP_USER": "0"},  # a user-wide pip setting of it excludes --target
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=inherited,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is PIPE
        try:
            for line in process.stdout:
                last.append(line.rstrip())
                log(last[-1])
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        code = process.returncode
        ended = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
        raise HandlerInvalid(f"{what} {ended}.", "\n".join(last))


def _file(project: Path, path: str, field: str, pattern: str) -> Path:
    file = project / path
    if file.is_file():
        return file
    there = sorted(str(f.relative_to(project)) for f in project.glob(pattern))
    near = nearest(path, there)
    hint = f" Found there: {', '.join(there[:10])}." if there else ""
    if near:
        hint = f" Did you mean {near!r}?"
    raise HandlerInvalid(f"{field}: the file {path} does not exist in {project}.{hint}")


def _inputs(project: Path, requirements: Path) -> Iterator[bytes]:
    """Yield everything that the result of an install depends on."""
    yield sys.version.encode()
    yield sys.platform.encode()
    yield from _requirement_lines(project, requirements, set())


def _requirement_lines(project: Path, file: Path, seen: set[Path]) -> Iterator[bytes]:
    """Yield the lines of a requirements file, of those it includes, and the state of the local packages it names."""
    if file in seen or not file.is_file():  # a missing one is pip's to report
        return
    seen.add(file)
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.partition(" #")[0].strip()
        yield text.encode()
        option, _, rest = text.replace("=", " ", 1).partition(" ")
        if option in ("-r", "-c", "--requirement", "--constraint"):
            yield from _requirement_lines(project, file.parent / rest.strip(), seen)
        elif not text.startswith(("#", "-")) and text:
            local = project / text.rpartition("@ file:")[2].partition(";")[0].partition("[")[0].strip()
            yield from _local_state(local)


def _local_state(path: Path) -> Iterator[bytes]:
    if path.is_file():
        yield f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}".encode()
    elif path.is_dir():
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(
                f for f in folders if not (f in _NEVER_DIGESTED or f.startswith(".") or f.endswith(".egg-info"))
            )
            for name in sorted(files):
                yield from _local_state(Path(folder) / name)


def _digest(parts: Iterator[bytes] | Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]
