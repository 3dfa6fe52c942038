"""Whose an output folder is: a small file there names its job, so that no job clears or overwrites another's results.

Apart from ``parts``, which writes and clears what it is told to: this says whether it may.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from batchyard.output.parts import ERRORS, MANIFEST, OutputInvalid, OutputUnavailable, Parts

OWNER = ".batchyard.json"


@dataclass(frozen=True, slots=True)
class Owner:
    """A job as an output folder remembers it.

    ``job``: its name; ``jobId``: that of its newest run; ``home``: the folder that holds the job's state; ``path``:
    where the output folder was then, which tells one that was copied or moved with its project.
    """

    job: str
    jobId: str  # noqa: N815 - as in the file
    home: str
    path: str

    def wrote(self, found: "Owner", known_run: str | None) -> bool:
        """Return whether ``found`` is this job; ``known_run`` recognises it in a project that was moved or copied."""
        if (self.job, self.home) == (found.job, found.home):
            return True
        return known_run == found.jobId and (self.path != found.path or not Path(found.home).exists())


def check_owner(parts: Parts, owner: Owner, known_run: str | None, *, resumes: bool = False) -> None:
    """Refuse an output folder that holds what this job did not write; nothing is touched.

    ``known_run``: the id of the job's run so far, None when it has none. ``resumes``: results without an owner are
    that run's. Raises OutputInvalid.
    """
    found = _read(parts)
    if found is not None:
        if not owner.wrote(found, known_run):
            raise _refused(parts, f"the results of another job, {found.job} (its state is in {found.home})")
    elif not resumes and (result := _unowned(parts)) is not None:
        raise _refused(parts, f"{result}, which no job has marked as its own")


def claim(parts: Parts, owner: Owner, known_run: str | None, *, resumes: bool = False) -> None:
    """Make the output folder this job's own; of two jobs that claim one at once, one is refused.

    Raises OutputInvalid, OutputUnavailable.
    """
    check_owner(parts, owner, known_run, resumes=resumes)
    content = json.dumps(asdict(owner), indent=2).encode() + b"\n"
    if _read(parts) is None:
        _put_if_first(parts, owner, content)
        check_owner(parts, owner, known_run, resumes=resumes)
    if _read(parts) != owner:
        parts.put(OWNER, [content])


def _put_if_first(parts: Parts, owner: Owner, content: bytes) -> None:
    """Write the owner unless there is one by now. A link is made whole or not at all, and never replaces a file."""
    folder, draft = Path(parts.path), f"{OWNER}.{owner.jobId}"
    parts.put(draft, [content])
    try:
        with suppress(FileExistsError):
            (folder / OWNER).hardlink_to(folder / draft)
    except OSError:  # a file system without hard links: two at the same moment are not told apart there
        parts.put(OWNER, [content])
    finally:
        parts.delete(draft)


def _read(parts: Parts) -> Owner | None:
    path = Path(parts.path) / OWNER
    try:
        content = json.loads(path.read_bytes())
        return Owner(**{name: str(content[name]) for name in ("job", "jobId", "home", "path")})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputInvalid(f"spec.output.path: {path} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise OutputInvalid(
            f"spec.output.path: {path} does not name a job, so nobody can tell whose the results there are: "
            "choose another folder, or move what is there away."
        ) from error


def _unowned(parts: Parts) -> str | None:
    """Return a file that this job would clear or replace, None when there is none."""
    for name in (MANIFEST, ERRORS):
        if (Path(parts.path) / name).exists():
            return name
    try:
        first = next(parts.written(), None)
    except OutputUnavailable:  # said in its own words when the folder is checked for writing
        return None
    return None if first is None else first.name


def _refused(parts: Parts, found: str) -> OutputInvalid:
    return OutputInvalid(
        f"spec.output.path: {parts.path} holds {found}; expected a folder of this job's own: choose another one "
        "(--output PATH), or move what is there away."
    )
