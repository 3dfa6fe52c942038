"""Result parts: one file a batch, under a name derived from the batch, so that a repeated batch replaces its own.

This is where delivery at least once becomes a result exactly once: a part is whole and durable before its batch is
settled, and running the batch again writes the same file again.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from batchyard.api.errors import InvalidError, TransientError
from batchyard.api.names import part_name
from batchyard.storage.door import is_s3, open_folder
from batchyard.storage.port import NotThere, StorageRefused, StorageUnavailable, Stored, StoreOptions

PARTS = "parts"
ERRORS = "errors.jsonl"
MANIFEST = "manifest.json"
PATTERN = "parts/*/part-*.jsonl"

_OURS = re.compile(r"parts/\d{6,}/part-\d{9,}\.jsonl")


class OutputInvalid(InvalidError):
    """The job's output cannot be used until the user changes something: its path, a permission, credentials."""

    reason = "OutputInvalid"


class OutputUnavailable(TransientError):
    """The output cannot be written now (a full disk, a store that is away); the message says where and what to do."""


class FileNotThere(OutputInvalid):
    """A file of the output is not there; or there is no such bucket."""


class Parts:
    """The output folder, or prefix of a bucket, of one job.

    A local one is cheap to make, and nothing is touched before the first call; for a bucket it holds a client, which
    threads may share and which must not go through a fork. Every method but ``url`` raises OutputUnavailable when a
    disk or a store cannot do it now, and OutputInvalid when a store refuses it.
    """

    def __init__(self, path: str | os.PathLike[str], options: StoreOptions | None = None) -> None:
        self.path = os.fspath(path)
        try:
            self._storage = open_folder(self.path, options)
        except StorageRefused as error:
            raise OutputInvalid(f"output.path: {error}") from error

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object store."""
        return is_s3(self.path)

    def url(self, name: str) -> str:
        """Return the path or URL that a person knows a file of the output by."""
        return self._storage.url(name)

    def write(self, index: int, data: bytes) -> None:
        """Make the result of batch ``index`` durable, replacing an earlier one; no data means no part."""
        if data:
            self.put(part_name(index), [data])
        else:
            self.delete(part_name(index))

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write one file of the output, whole or not at all; return its bytes."""
        with _told():
            return self._storage.put(name, chunks)

    def put_new(self, name: str, data: bytes) -> bool:
        """Write one file unless there is one; return whether it was written."""
        with _told():
            return self._storage.put_new(name, data)

    def delete(self, name: str) -> None:
        """Remove one file of the output if it is there."""
        with _told():
            self._storage.delete(name)

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file of the output, None when there is none."""
        try:
            return self.content(name)
        except FileNotThere:
            return None

    def has(self, name: str) -> bool:
        """Return whether a file of the output is there."""
        try:
            with _told():
                self._storage.stat(name)
        except FileNotThere:
            return False
        return True

    def written(self) -> Iterator[Stored]:
        """Yield the parts that are there, in the order of the input."""
        with _told():
            yield from (stored for stored in self._storage.list(PARTS) if _OURS.fullmatch(stored.name))

    def content(self, name: str) -> bytes:
        """Return one file of the output whole. Raises FileNotThere."""
        with _told():
            return b"".join(self._storage.chunks(name))

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of one file of the output. Raises FileNotThere."""
        with _told(), self._storage.open(name) as file:
            yield from file

    def check_writable(self) -> None:
        """Make the folder and write to it once. Raises OutputInvalid, saying what to change."""
        with _told():
            problem = self._storage.check()
        if problem is not None:
            raise OutputInvalid(f"output.path: results cannot be written: {problem}")

    def prepare(self, *, fresh: bool) -> None:
        """Ready the folder for a run; nobody may be writing there.

        Removes what killed writers left and, when ``fresh``, the files of an earlier run: parts, errors and
        manifest. Files that are not ours stay.
        """
        self._sweep()
        if not fresh:
            return
        self.delete(MANIFEST)  # first: while it stands, it vouches for the rest
        self.delete(ERRORS)
        folders: set[str] = set()
        with _told():
            self._storage.delete_all(_noted(self.written(), folders))
            for folder in (*sorted(folders), PARTS):
                self._storage.delete_folder(folder)

    def finish(self) -> None:
        """Remove the folder of half-written files once it is empty."""
        with _told():
            self._storage.delete_folder(".partial")

    def _sweep(self) -> None:
        """Remove what killed writers left.

        A role that may not list unfinished uploads goes without: they are never seen, and a rule of the bucket
        (AbortIncompleteMultipartUpload) removes them as well.
        """
        with _told(), suppress(StorageRefused):
            self._storage.sweep()


def _noted(parts: Iterable[Stored], folders: set[str]) -> Iterator[str]:
    """Yield the names of parts; note their folders."""
    for stored in parts:
        folders.add(stored.name.rpartition("/")[0])
        yield stored.name


@contextmanager
def _told() -> Iterator[None]:
    """Turn the storage's errors into ours."""
    try:
        yield
    except NotThere as error:
        raise FileNotThere(f"output: {error}") from error
    except StorageRefused as error:
        raise OutputInvalid(f"output: {error}") from error
    except StorageUnavailable as error:
        raise OutputUnavailable(f"output: {error}") from error
