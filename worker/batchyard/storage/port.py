"""The door to where a job's files lie: one folder, or later one prefix of an object store."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol

from batchyard.api.errors import TransientError


class StorageUnavailable(TransientError):
    """A file cannot be read or written now: no space, no permission, no such place. The message names the path."""


class Stored(NamedTuple):
    """A file that is there: its name below the folder, and its size in bytes."""

    name: str
    size: int


class Storage(Protocol):
    """Files by names like ``a/b.jsonl``. Every method but ``check`` raises StorageUnavailable."""

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write a file, replacing it at once and only when it is whole and durable; return its size in bytes."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        ...

    def list(self, below: str = "") -> Iterator[Stored]:
        """Yield the files below a folder, in byte order of their names; none when there is no such folder."""
        ...

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file for reading."""
        ...

    def sweep(self) -> None:
        """Remove what puts that were killed have left. Nobody may be writing."""
        ...

    def check(self) -> str | None:
        """Make the folder if need be and write there once; return what is wrong, None when nothing is."""
        ...
