"""Result parts: one file a batch, under a name derived from the batch, so that a repeated batch replaces its own.

This is where delivery at least once becomes a result exactly once: a part is whole and durable before its batch is
settled, and running the batch again writes the same file again.
"""

import os
import re
from collections.abc import Iterable, Iterator

from batchyard.api.errors import InvalidError, TransientError
from batchyard.api.names import part_name
from batchyard.storage.local import LocalFolder
from batchyard.storage.port import StorageRefused, StorageUnavailable, Stored

PARTS = "parts"
ERRORS = "errors.jsonl"
MANIFEST = "manifest.json"
PATTERN = "parts/*/part-*.jsonl"

_OURS = re.compile(r"parts/\d{6,}/part-\d{9,}\.jsonl")


class OutputInvalid(InvalidError):
    """The job's output path cannot be used; said before any batch runs."""

    reason = "OutputInvalid"


class OutputUnavailable(TransientError):
    """The output cannot be written now (a full disk, a lost mount); the message names the path and what to do."""


class Parts:
    """The output folder of one job. Cheap to make; nothing is touched before the first call."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._storage = LocalFolder(path)

    def write(self, index: int, data: bytes) -> None:
        """Make the result of batch ``index`` durable, replacing an earlier one; no data means no part.

        Raises OutputUnavailable.
        """
        if data:
            self.put(part_name(index), [data])
        else:
            self.delete(part_name(index))

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write one file of the output, whole or not at all; return its bytes. Raises OutputUnavailable."""
        try:
            return self._storage.put(name, chunks)
        except (StorageRefused, StorageUnavailable) as error:
            raise OutputUnavailable(f"output: {error}") from error

    def delete(self, name: str) -> None:
        """Remove one file of the output if it is there. Raises OutputUnavailable."""
        try:
            self._storage.delete(name)
        except (StorageRefused, StorageUnavailable) as error:
            raise OutputUnavailable(f"output: {error}") from error

    def written(self) -> Iterator[Stored]:
        """Yield the parts that are there, in the order of the input. Raises OutputUnavailable."""
        try:
            yield from (stored for stored in self._storage.list(PARTS) if _OURS.fullmatch(stored.name))
        except (StorageRefused, StorageUnavailable) as error:
            raise OutputUnavailable(f"output: {error}") from error

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of one file of the output. Raises OutputUnavailable."""
        try:
            with self._storage.open(name) as file:
                yield from file
        except (StorageRefused, StorageUnavailable) as error:
            raise OutputUnavailable(f"output: {error}") from error

    def check_writable(self) -> None:
        """Make the folder and write to it once. Raises OutputInvalid, saying what to change."""
        problem = self._storage.check()
        if problem is not None:
            raise OutputInvalid(f"output.path: results cannot be written: {problem}")

    def prepare(self, *, fresh: bool) -> None:
        """Ready the folder for a run; nobody may be writing there. Raises OutputUnavailable.

        Removes what killed writers left and, when ``fresh``, the files of an earlier run: parts, errors and
        manifest. Files that are not ours stay.
        """
        try:
            self._storage.sweep()
        except (StorageRefused, StorageUnavailable) as error:
            raise OutputUnavailable(f"output: {error}") from error
        if not fresh:
            return
        self.delete(MANIFEST)  # first: while it stands, it vouches for the rest
        self.delete(ERRORS)
        folders = set()
        for stored in list(self.written()):
            self.delete(stored.name)
            folders.add(stored.name.rpartition("/")[0])
        for folder in (*sorted(folders), PARTS):
            self._storage.delete_folder(folder)

    def finish(self) -> None:
        """Remove the folder of half-written files once it is empty."""
        self._storage.delete_folder(".partial")
