"""What a queue file holds, how one is made, and what is refused; apart so that the layout can be read on one page.

A file is recognised by SQLite's ``application_id`` and ``user_version``; a change of the tables raises ``VERSION``.
"""

import os
from pathlib import Path

import apsw

from batchyard.api.errors import InvalidError
from batchyard.queue.port import QueueLost, QueueUnavailable

APPLICATION_ID = 0x42594451  # "BYDQ"
VERSION = 1
OLDEST_LIBRARY = (3, 51, 3)  # before 3.51.3, processes that reset a WAL file at one moment can corrupt it

TABLES = """
-- One row: every number that must move in the same transaction as the rows it counts.
CREATE TABLE job(
  id INTEGER PRIMARY KEY CHECK (id = 1),
  published INTEGER NOT NULL DEFAULT 0,   -- also the index of the next batch to publish
  succeeded INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  fresh INTEGER NOT NULL DEFAULT 0,       -- index of the first batch that was never given out
  leases INTEGER NOT NULL DEFAULT 0,      -- leases given so far: the source of lease tokens
  completion TEXT NOT NULL DEFAULT 'absent',
  completion_failure TEXT,
  items INTEGER,
  halt TEXT,
  seen REAL NOT NULL DEFAULT 0            -- the latest wall clock of a write, to a second: tells when it went back
);
INSERT INTO job(id) VALUES (1);

CREATE TABLE enqueuer(id INTEGER PRIMARY KEY CHECK (id = 1), cursor BLOB NOT NULL);
INSERT INTO enqueuer VALUES (1, x'');

-- Bodies of the batches that have not succeeded. Never updated: a big body is written once and deleted once.
CREATE TABLE body(id INTEGER PRIMARY KEY, body BLOB NOT NULL);

-- Batches that were given out at least once and are not settled; the completion token is row -1. A row with a token
-- is under a lease that ends at due; one without waits to be given out again at due.
CREATE TABLE delivery(
  id INTEGER PRIMARY KEY,
  due REAL NOT NULL,
  token INTEGER,
  owner TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  lost INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX delivery_leased ON delivery(due, id) WHERE token IS NOT NULL;
CREATE INDEX delivery_waiting ON delivery(due, id) WHERE token IS NULL;

-- The newest failed attempt of a batch, until it succeeds. Apart from delivery: a traceback is far bigger than a row.
CREATE TABLE attempt(id INTEGER PRIMARY KEY, failure TEXT NOT NULL);

-- Batches that failed for good; nth counts from 1 in the order of failing. Their bodies stay where they are.
CREATE TABLE failed(id INTEGER PRIMARY KEY, nth INTEGER NOT NULL, attempts INTEGER NOT NULL, failure TEXT NOT NULL);
CREATE UNIQUE INDEX failed_nth ON failed(nth);
"""


def check_library(version: str) -> None:
    """Refuse an SQLite library (``3.51.3``) that can corrupt a file shared by processes: InvalidError."""
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_LIBRARY:
        oldest = ".".join(map(str, OLDEST_LIBRARY))
        raise InvalidError(
            f"SQLite library: found {version}, expected {oldest} or newer (older ones can corrupt a file that "
            "several processes write); install apsw 3.51.3.0 or newer"
        )


def check_tables(path: Path, application_id: int, version: int) -> None:
    """Refuse a file that is not a queue, or one of another layout."""
    if application_id != APPLICATION_ID:
        raise QueueLost(f"queue {path}: this file is not a Batchyard queue")
    if version != VERSION:
        raise QueueLost(
            f"queue {path}: found layout {version}, expected {VERSION}: another version of Batchyard wrote this file"
        )


def make(path: Path) -> None:
    """Make an empty queue file at ``path``, whole or not at all.

    It is built under another name: a process killed halfway leaves no file that looks like a job's queue. Raises
    FileExistsError when ``path`` is taken, apsw.Error and OSError as they come.
    """
    if path.exists():
        raise FileExistsError(f"queue {path}: there is such a file already")
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    _unlink(draft)
    try:
        connection = apsw.Connection(str(draft))
        try:
            if connection.pragma("journal_mode", "wal") != "wal":
                raise QueueUnavailable(f"queue {path}: this file system cannot hold it; put it on a local disk")
            for statement in (
                "BEGIN IMMEDIATE",
                TABLES,
                f"PRAGMA application_id = {APPLICATION_ID}",
                f"PRAGMA user_version = {VERSION}",
                "COMMIT",
            ):
                connection.execute(statement)
        finally:
            connection.close()
        _place(draft, path)
    finally:
        _unlink(draft)


def _place(draft: Path, path: Path) -> None:
    # A link refuses a name that was taken meanwhile; a rename would silently replace another job's queue.
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise FileExistsError(f"queue {path}: there is such a file already") from None
    except OSError:  # a file system without hard links
        draft.rename(path)


def _unlink(draft: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
