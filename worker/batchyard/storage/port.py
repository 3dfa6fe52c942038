"""The door to where a job's files lie: one folder, or one prefix of an object store."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

from batchyard.api.errors import InvalidError, TransientError


class StorageUnavailable(TransientError):
    """A file cannot be read or written now: no space, no answer, throttled. The message names the path or URL."""


class StorageRefused(InvalidError):
    """A file cannot be read or written until the user changes something; the message says where and what."""

    reason = "StorageRefused"


class NotThere(StorageRefused):
    """There is no such file, folder or bucket."""

    reason = "NotFound"


class Changed(StorageRefused):
    """A file was replaced while it was read: what was read of it belongs to no version of it."""

    reason = "InputChanged"


class Stored(NamedTuple):
    """A file that is there: its name below the folder, its size in bytes, and a tag that changes with its content."""

    name: str
    size: int
    etag: str = ""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How to reach an object store; what is None is left to the standard AWS configuration.

    ``endpoint`` is a URL for stores that are not AWS. ``path_style`` puts the bucket into the path instead of the
    host name; None does so at every endpoint of one's own. ``attempts`` is how often a call is made before it fails,
    and how often in a row a stream may break without a byte of progress. Time-outs are in seconds.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    requester_pays: bool = False
    attempts: int = 8
    connect_timeout: float = 10
    read_timeout: float = 60


class Storage(Protocol):
    """Files by names like ``a/b.jsonl``.

    Every method but ``check`` and ``url`` raises StorageUnavailable or StorageRefused.
    """

    def url(self, name: str) -> str:
        """Return the path or URL that a person knows a file by."""
        ...

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write a file, replacing it at once and only when it is whole and durable; return its size in bytes."""
        ...

    def put_new(self, name: str, data: bytes) -> bool:
        """Write a small file unless there is one by that name; return whether it was written.

        Of several that do so at once one wins, but where neither links nor conditional requests are known: the last.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        ...

    def delete_all(self, names: Iterable[str]) -> int:
        """Remove files, with few requests; return how many names were given. Names may come from ``list``."""
        ...

    def delete_folder(self, name: str) -> None:
        """Remove a folder if it is empty; where folders are but the beginnings of names, nothing is done."""
        ...

    def delete_below(self, below: str) -> int:
        """Remove every file below a folder, and the folder; return how many there were. "" means everything."""
        ...

    def list(self, below: str = "", *, beginning: str = "", after: str = "") -> Iterator[Stored]:
        """Yield the files below a folder as they are found; none when there is no such folder.

        ``beginning`` keeps to those whose name behind ``below`` begins so. ``after`` is the full name of the last
        file seen: the listing goes on behind it. The order is that of the bytes of the names, as AWS gives it, or
        whatever order a store has instead, the same every time.
        """
        ...

    def stat(self, name: str) -> Stored:
        """Return a file's size and tag; raise NotThere."""
        ...

    def open(self, name: str, etag: str = "") -> AbstractContextManager[BinaryIO]:
        """Open a file for reading forward; raise NotThere, and Changed if its tag is not ``etag``, then or later."""
        ...

    def chunks(self, name: str, start: int = 0, stop: int | None = None, etag: str = "") -> Iterator[bytes]:
        """Yield the bytes from ``start`` to before ``stop``, fewer where the file ends; errors as in ``open``."""
        ...

    def sweep(self) -> None:
        """Remove what puts that were killed have left. Nobody may be writing."""
        ...

    def check(self) -> str | None:
        """Make the folder if need be and write there once; return what is wrong, None when nothing is.

        Raises StorageUnavailable when an object store does not answer, which says nothing about the folder.
        """
        ...
