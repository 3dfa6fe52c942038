"""Which files an input names, in an order that never depends on the file system.

Paths come one behind the other, each in the order of its own listing. Whether an earlier path of the input already
gave a file is computed, not remembered: so is what a restarted enqueuer goes on with.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from batchyard.enqueue.bucket_root import bucket_root
from batchyard.enqueue.local_root import local_root
from batchyard.enqueue.root import Listed, Root, globs_of
from batchyard.enqueue.settings import InputSettings
from batchyard.enqueue.split import InputInvalid
from batchyard.storage.door import Buckets, is_s3

_ASKED_AT_ONCE = 8  # paths of buckets that are looked up side by side


class Listing:
    """The files of an input. ``looked`` counts the files seen so far, selected or not; ``selected`` those taken."""

    def __init__(self, given: InputSettings, folder: Path, buckets: Buckets, *, allow_empty: bool = False) -> None:
        """Resolve every path; raise InputInvalid, and StorageUnavailable when a bucket does not answer."""
        self._field = f"input.{given.kind}"
        self._given = given
        self._allow_empty = allow_empty
        self.looked = 0
        self.selected = 0
        self._example = ""
        includes = globs_of(f"{self._field}.includes", given.includes) if given.includes else None
        excludes = globs_of(f"{self._field}.excludes", given.excludes)
        makers: list[Callable[[], Root]] = []
        for i, path in enumerate(given.paths):
            field = f"{self._field}.paths[{i}]"
            if is_s3(path):
                makers.append(partial(bucket_root, i, field, path, buckets, given.includes, given.excludes))
            else:
                makers.append(partial(local_root, i, field, path, folder, includes, excludes))
        if any(map(is_s3, given.paths[1:])):
            with ThreadPoolExecutor(_ASKED_AT_ONCE, "paths") as pool:
                self._roots = list(pool.map(lambda make: make(), makers))
        else:
            self._roots = [make() for make in makers]

    def files(self, after: tuple[int, str] | None = None) -> Iterator[Listed]:
        """Yield the selected files in order; from ``after`` (a root and a path below it), itself included.

        Raises InputInvalid for what cannot be listed, and, when reading from the start, for paths that select none of
        the files that are there; StorageUnavailable when a bucket does not answer.
        """
        first = after[0] if after is not None else 0
        for i, root in enumerate(self._roots[first:], first):
            for listed in root.listed(after[1] if after is not None and i == first else None):
                self.looked += 1
                if not root.selects(listed.below) or any(early.covers(listed.path) for early in self._roots[:i]):
                    self._example = self._example or listed.below
                    continue
                self.selected += 1
                yield listed
        if after is None and self.looked and not self.selected and not self._allow_empty:
            raise InputInvalid(self._nothing())

    def _nothing(self) -> str:
        given = self._given
        picked = [f"{name} {getattr(given, name)}" for name in ("includes", "excludes") if getattr(given, name)]
        by = " with " + " and ".join(picked) if picked else ""
        start = "; in a bucket, patterns with a slash start at the bucket" if any(map(is_s3, given.paths)) else ""
        return (
            f"{self._field}: paths {given.paths}{by} select none of the {self.looked:,} files looked at "
            f"(the first is {self._example!r}), expected at least one{start}."
        )
