"""What a path of the input gives, wherever it lies: its files in order, and which of them are selected.

Apart so that folders and buckets share it: ``local_root`` and ``bucket_root`` know where to look.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from batchyard.enqueue.globs import Globs
from batchyard.enqueue.split import InputInvalid


@dataclass(frozen=True, slots=True)
class Listed:
    """One file: ``path`` absolute or a URL, ``shown`` as the user would write it, ``below`` its path below its root.

    ``root`` is the index of the given path that led to it. ``size`` (bytes) and ``etag`` are those of a bucket's
    listing, 0 and "" for a local file, which is asked when it is opened.
    """

    root: int
    below: str
    path: str
    shown: str
    size: int = 0
    etag: str = ""


class Root(Protocol):
    """One path of the input, resolved."""

    def listed(self, after: str | None) -> Iterator[Listed]:
        """Yield every file, selected or not, in order; from the one ``after`` on, itself included if it is there."""
        ...

    def selects(self, below: str) -> bool:
        """Return whether the file at this path below the root is selected."""
        ...

    def covers(self, path: str) -> bool:
        """Return whether this root gives the file at an absolute path or URL."""
        ...


@dataclass(frozen=True, slots=True)
class Picks:
    """What selects files: the glob in the path itself, then ``includes``, then ``excludes``, which win."""

    glob: Globs | None
    includes: Globs | None
    excludes: Globs

    def pick(self, path: str) -> bool:
        """Return whether a path passes all three."""
        if self.glob is not None and not self.glob.matches(path):
            return False
        if self.includes is not None and not self.includes.matches(path):
            return False
        return not self.excludes.matches(path)

    @property
    def names_hidden(self) -> bool:
        """Whether a pattern names the dot of hidden files; without one they are left alone, as a shell does."""
        return any(globs is not None and globs.names_hidden for globs in (self.glob, self.includes))


def anchored(field: str, pattern: str) -> Globs:
    """Return the glob of a path: it starts where its fixed part ends, unlike an include. Raises InputInvalid."""
    return globs_of(field, ["/" + pattern])


def globs_of(field: str, patterns: list[str], *, dots: bool = False) -> Globs:
    """Return patterns compiled; raise InputInvalid for one that cannot be. ``dots``: wildcards match leading dots."""
    try:
        return Globs(patterns, dots=dots)
    except ValueError as error:
        raise InputInvalid(f"{field}: {error}") from error


def check_name(path: str) -> None:
    """Raise InputInvalid for a file name that JSON cannot hold."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputInvalid(f"{os.fsencode(path)!r}: found a file name that is not UTF-8, expected UTF-8.") from None
