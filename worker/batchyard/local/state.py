"""The job's folder: who holds it, which run it is of, and what a new run may do with what it finds.

Apart because it must be right at every kill: ``run.json`` is written last and taken away first, so it exists only
while the ``queue.db`` beside it is that run's whole queue. A ``queue.db`` without ``run.json`` is the rest of a start
that was cut short, in which no batch can have run, and is cleared by the next start.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from batchyard.api.errors import InvalidError, TransientError
from batchyard.queue.port import QueueLost
from batchyard.queue.sqlite import SqliteQueue

OWNER = "runner"
STATE_FOLDER = ".batchyard"


class RunRefused(InvalidError):
    """The folder is held, cannot be written, or holds a run that this command may not replace or go on with."""

    reason = "RunRefused"


class StateUnavailable(TransientError):
    """The job's folder cannot be written now (a full disk); ``--resume`` goes on once it can."""


class RunRecord(BaseModel):
    """What ``run.json`` says: which run the folder is of. ``start_time`` in unix seconds.

    ``fixed`` holds, by field path, the parts of the spec that a resumed run must share with the first one: the
    batches are already cut from that input, and their results are already in that output.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    job_id: str
    job_name: str
    start_time: float
    manifest: str
    manifest_digest: str
    fixed: dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The paths of one job's folder; nothing is made until ``hold`` is entered."""

    root: Path

    @property
    def queue(self) -> Path:
        """The queue's file."""
        return self.root / "queue.db"

    @property
    def record(self) -> Path:
        """What says which run the folder is of."""
        return self.root / "run.json"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.root / "logs"

    @property
    def settings(self) -> Path:
        """What each process is told at start."""
        return self.root / "settings"

    @property
    def models(self) -> Path:
        """Links that give an unversioned model a version."""
        return self.root / "models"

    @property
    def dependencies(self) -> Path:
        """The handler's installed dependencies; kept from run to run."""
        return self.root / "deps"

    @property
    def project(self) -> Path:
        """The files of ``handler.project.inline``."""
        return self.root / "project"

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Make the folder and hold its lock. Raises RunRefused when it is held already or cannot be written.

        The lock is the kernel's (flock): it goes with the process, however that ends.
        """
        try:
            for folder in (self.root, self.logs, self.settings):
                folder.mkdir(parents=True, exist_ok=True)
            _keep_out_of_git(self.root.parent)
            held = (self.root / "lock").open("a+b", buffering=0)
        except OSError as error:
            raise RunRefused(
                f"cannot write the job's folder {self.root} ({error.strerror}): "
                "name a folder that can be written with --state-dir DIR"
            ) from error
        with held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                held.seek(0)
                holder = (held.read() or b"").decode().strip() or "unknown"
                raise RunRefused(
                    f"this job is being run already by process {holder} (it holds {self.root / 'lock'}): "
                    "wait for it, stop it, or use another metadata.name or --state-dir"
                ) from error
            except OSError as error:
                raise RunRefused(
                    f"{self.root} is on a file system without locks ({error.strerror}): "
                    "name a folder on a local disk with --state-dir DIR"
                ) from error
            with contextlib.suppress(OSError):  # who holds it is a help to others; on a full disk it is not told
                held.truncate(0)
                held.write(f"{os.getpid()}\n".encode())
            yield

    def read_record(self) -> RunRecord | None:
        """Return the run that the folder is of; None when there is none. Raises RunRefused when it is unreadable."""
        try:
            return RunRecord.model_validate_json(self.record.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise RunRefused(f"{self.record} cannot be read; start the job anew with --restart") from error

    def known_run(self) -> str | None:
        """Return the id of the run that the folder is of; None when there is none or nobody can read it."""
        try:
            record = self.read_record()
        except RunRefused:
            return None
        return None if record is None else record.job_id

    def forget(self) -> None:
        """Take away the run that is there, its record first. Call only while holding the folder."""
        self.record.unlink(missing_ok=True)
        for leftover in self.root.glob("*queue.db*"):  # -wal, -shm, and drafts that a killed start left
            leftover.unlink(missing_ok=True)
        for log in self.logs.glob("*.log"):
            log.unlink(missing_ok=True)

    def create(self, record: RunRecord) -> SqliteQueue:
        """Put a new run in the place of whatever is there and return its queue. Call only while holding the folder.

        The order makes each moment safe to die in: no record, no old queue, the new queue, its record.
        """
        self.forget()
        SqliteQueue.create(self.queue, owner=OWNER).close()  # whole or not at all
        write_atomically(self.record, record.model_dump_json(indent=2).encode())
        return self.open()

    def open(self) -> SqliteQueue:
        """Open the queue of the run that the folder is of. Raises RunRefused when it is gone."""
        try:
            return SqliteQueue.open(str(self.queue), owner=OWNER)
        except QueueLost as error:
            raise RunRefused(
                f"{self.queue} is missing or damaged though {self.record.name} tells of a run ({error}): "
                "start the job anew with --restart"
            ) from error


def _keep_out_of_git(parent: Path) -> None:
    """Let git ignore ``.batchyard``, without asking the user for a line in a file of theirs."""
    if parent.name == STATE_FOLDER and not (parent / ".gitignore").exists():
        (parent / ".gitignore").write_text("*\n")


def new_record(job_name: str, manifest: Path, fixed: dict[str, Any]) -> RunRecord:
    """Return the record of a run that starts now, under a new job id."""
    return RunRecord(
        job_id=str(uuid.uuid4()),
        job_name=job_name,
        start_time=time.time(),
        manifest=str(manifest),
        manifest_digest=hashlib.sha256(manifest.read_bytes()).hexdigest(),
        fixed=json.loads(json.dumps(fixed)),
    )


def changed_field(before: Any, after: Any, path: str = "") -> str | None:
    """Return the path of the first field whose value differs, None when all are equal."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(n for n in after if n not in before)]:
            inner = f"{path}.{name}" if path else name
            found = changed_field(before.get(name), after.get(name), inner)
            if found:
                return found
        return None
    return None if before == after else path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one, never a half. Raises StateUnavailable."""
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise StateUnavailable(
            f"cannot write {path} ({error.strerror}): free space there and run again with --resume, "
            "or name another folder with --state-dir DIR"
        ) from error
