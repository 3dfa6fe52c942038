"""One connection to a queue file: transactions, waiting for locks, the clock, and where apsw's errors end.

Apart from the engine so that the engine is only about batches: here is everything SQLite does when it is not asked.
"""

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import apsw

from batchyard.api.errors import BatchyardError
from batchyard.queue import sqlite_schema
from batchyard.queue.port import QueueLost, QueueUnavailable

T = TypeVar("T")
Row = tuple[Any, ...]

_POLL = 0.05  # seconds between looks at data_version while waiting
_JITTER = (0.0002, 0.003)  # seconds between tries for a lock; SQLite's own busy handler starves some of the writers
_CLOCK_STEP = 1.0  # seconds: how finely the file remembers the clock, and how far back counts as a jump
_CONTENDED = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)


class Store:
    """One handle on a queue file, for one thread of one process.

    ``clock`` returns unix seconds. ``patience``: seconds to try for a lock before QueueUnavailable.
    """

    def __init__(self, path: Path, clock: Callable[[], float], patience: float) -> None:
        self.path = path.absolute()  # a later chdir must not change which file is watched
        self._clock = clock
        self._patience = patience
        self._pid = os.getpid()
        self._thread: int | None = None  # bound by the first use: opening in one thread for another is fine
        sqlite_schema.check_library(apsw.sqlite_lib_version())
        self._file = self._inode()
        self._connection: Any = None
        try:
            self._connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            self._persist(self._prepare)
        except BaseException as error:
            self._disconnect()
            if isinstance(error, apsw.Error):
                self._raise(error)
            raise
        self._thread = None

    def _prepare(self) -> None:
        pragma = self._connection.pragma
        sqlite_schema.check_tables(self.path, pragma("application_id"), pragma("user_version"))
        self._connection.set_busy_timeout(0)
        pragma("synchronous", "NORMAL")
        pragma("wal_autocheckpoint", 1000)
        pragma("journal_size_limit", 64 << 20)
        pragma("cache_size", -8192)  # KiB

    # --- statements ---
    def execute(self, statement: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """Run one statement inside ``write`` and return all its rows."""
        return list(self._connection.execute(statement, values))

    def execute_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of ``values`` inside ``write``."""
        self._connection.executemany(statement, values)

    def changed(self, statement: str, values: Sequence[Any]) -> bool:
        """Run one statement inside ``write``; return whether it changed a row."""
        self._connection.execute(statement, values)
        return bool(self._connection.changes())

    def read(self, statement: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """Return the rows of one consistent look; no transaction stays open behind it."""
        return self._persist(lambda: self.execute(statement, values))

    def write(self, work: Callable[[float], T]) -> T:
        """Run ``work(now)`` in one transaction, all or nothing; it runs again when the file was locked."""
        return self._persist(lambda: self._transact(work))

    # --- time ---
    def now(self) -> float:
        """Return unix seconds."""
        return self._clock()

    def version(self) -> int:
        """Return a number that differs after another handle's commit."""
        return int(self._persist(lambda: self._connection.pragma("data_version")))

    def wait(self, version: int, due: float | None, until: float) -> None:
        """Sleep until another handle commits after ``version``, until ``due`` (unix s), or ``until`` (monotonic s).

        No transaction is open meanwhile: a reader that stays would let the WAL grow without bound. At most a second,
        so that a clock that went back is noticed.
        """
        until = min(until, time.monotonic() + _CLOCK_STEP)
        while (left := until - time.monotonic()) > 0:
            step = min(_POLL, left)
            if due is not None:
                step = min(step, due - self.now())
            if step <= 0:
                return
            time.sleep(step)
            if self.version() != version:
                return

    # --- lifetime ---
    def close(self) -> None:
        """Close the file. Harmless when repeated, from any thread, and in a forked child (which leaves it alone)."""
        if os.getpid() == self._pid:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except apsw.Error as error:
                self._raise(error)

    # --- inside ---
    def _transact(self, work: Callable[[float], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._synchronised())
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk may have ended the transaction already; and the first fault is the one to tell.
            if self._connection.in_transaction:
                with contextlib.suppress(apsw.Error):
                    self._connection.execute("ROLLBACK")
            raise
        return result

    def _synchronised(self) -> float:
        """Return the time, after moving every due time along when the wall clock went back."""
        now = self._clock()
        seen = self._connection.execute("SELECT seen FROM job").fetchone()[0]
        if now < seen - _CLOCK_STEP:
            self._connection.execute("UPDATE delivery SET due = due - ?", (seen - now,))
        if abs(now - seen) > _CLOCK_STEP:
            self._connection.execute("UPDATE job SET seen = ?", (now,))
        return now

    def _persist(self, attempt: Callable[[], T]) -> T:
        """Return what ``attempt`` returns, trying again while others hold the file."""
        self._check_caller()
        deadline = time.monotonic() + self._patience
        squeezed = False
        while True:
            if self._inode() != self._file:
                raise QueueLost(f"queue {self.path}: the file was replaced by another while it was in use")
            try:
                return attempt()
            except _CONTENDED as error:
                if time.monotonic() > deadline:
                    self._raise(error)
            except apsw.FullError as error:
                if squeezed:
                    self._raise(error)
                squeezed = True
                self._squeeze()
            except apsw.Error as error:
                self._raise(error)
            time.sleep(random.uniform(*_JITTER))  # noqa: S311 - spreads writers, no secret

    def _squeeze(self) -> None:
        """Let the WAL be written from its start again: where no new space can be had, that is space we own."""
        with contextlib.suppress(apsw.Error):  # full all the same, or in use: the next try will tell
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)

    def _check_caller(self) -> None:
        if self._connection is None:
            raise RuntimeError(f"queue {self.path}: this handle is closed")
        if os.getpid() != self._pid:
            raise RuntimeError(f"queue {self.path}: a handle does not survive fork; open another in this process")
        if self._thread is None:
            self._thread = threading.get_ident()
        elif threading.get_ident() != self._thread:
            raise RuntimeError(f"queue {self.path}: a handle belongs to the thread that used it first; open another")

    def _inode(self) -> tuple[int, int]:
        # SQLite goes on in a deleted file without a word, and its counts would be nobody's.
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise QueueLost(f"queue {self.path}: there is no such file") from None
        except OSError as error:
            raise QueueUnavailable(f"queue {self.path}: cannot be read: {error.strerror}") from error
        return found.st_dev, found.st_ino

    def _raise(self, error: apsw.Error) -> NoReturn:
        raise translated(self.path, error) from error


def translated(path: Path, error: apsw.Error) -> BatchyardError:
    """Return an apsw error in the port's words."""
    where = f"queue {path}"
    if isinstance(error, _CONTENDED):
        return QueueUnavailable(f"{where}: other processes keep the file locked")
    if isinstance(error, apsw.FullError):
        return QueueUnavailable(f"{where}: the disk is full; free some space there")
    if isinstance(error, apsw.ReadOnlyError) and getattr(error, "extendedresult", 0) == apsw.SQLITE_READONLY_DBMOVED:
        return QueueLost(f"{where}: the file was moved or deleted while it was in use")
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError):
        return QueueUnavailable(f"{where}: the file or its folder is read-only")
    if isinstance(error, apsw.IOError | apsw.CantOpenError | apsw.NoMemError):
        return QueueUnavailable(f"{where}: {error}")
    if isinstance(error, apsw.NotADBError):
        return QueueLost(f"{where}: this file is not a Batchyard queue")
    if isinstance(error, apsw.CorruptError | apsw.FormatError):
        return QueueLost(f"{where}: the file is damaged: {error}")
    return BatchyardError(f"{where}: {type(error).__name__}: {error}")
