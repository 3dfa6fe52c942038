"""Whose an output folder is: a small file there names its job, so that no job clears or overwrites another's results.

Apart from ``parts``, which writes and clears what it is told to: this says whether it may.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from batchyard.output.parts import ERRORS, MANIFEST, OutputInvalid, Parts

OWNER = ".batchyard.json"
_TRIES = 5  # a store may turn down both of two that write at once


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


def is_owned_by(parts: Parts, job_id: str) -> bool:
    """Return whether the output is that of this run of a job. Raises OutputInvalid, OutputUnavailable."""
    found = _read(parts)
    return found is not None and found.jobId == job_id


def claim(parts: Parts, owner: Owner, known_run: str | None, *, resumes: bool = False) -> None:
    """Make the output folder this job's own; of two jobs that claim one at once, one is refused.

    Raises OutputInvalid, OutputUnavailable.
    """
    content = json.dumps(asdict(owner), indent=2).encode() + b"\n"
    for _ in range(_TRIES):
        check_owner(parts, owner, known_run, resumes=resumes)
        if parts.put_new(OWNER, content):
            break
        if (found := _read(parts)) is not None:
            check_owner(parts, owner, known_run, resumes=resumes)
            if found != owner:
                parts.put(OWNER, [content])
            return
    check_owner(parts, owner, known_run, resumes=resumes)  # a store may have let two write at once


def _read(parts: Parts) -> Owner | None:
    raw = parts.read(OWNER)
    if raw is None:
        return None
    try:
        content = json.loads(raw)
        return Owner(**{name: str(content[name]) for name in ("job", "jobId", "home", "path")})
    except (ValueError, KeyError, TypeError) as error:
        raise OutputInvalid(
            f"spec.output.path: {parts.url(OWNER)} does not name a job, so nobody can tell whose the results there "
            "are: choose another folder, or move what is there away."
        ) from error


def _unowned(parts: Parts) -> str | None:
    """Return a file that this job would clear or replace, None when there is none."""
    for name in (MANIFEST, ERRORS):
        if parts.has(name):
            return name
    first = next(parts.written(), None)
    return None if first is None else first.name


def _refused(parts: Parts, found: str) -> OutputInvalid:
    return OutputInvalid(
        f"spec.output.path: {parts.path} holds {found}; expected a folder of this job's own: choose another one "
        "(--output PATH), or move what is there away."
    )
