"""The files that one path of a bucket gives: a key, a prefix, or a glob; found in one streaming listing.

Files come in the order of the bucket's own listing, which is resumed behind any key. Keys are never compared: some
stores have an order of their own. ``includes``, ``excludes`` and globs in paths look at the key below the bucket.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from batchyard.api.errors import Problem
from batchyard.enqueue.globs import cut_at_glob, has_magic, literal_start
from batchyard.enqueue.root import Listed, Picks, anchored, globs_of
from batchyard.enqueue.split import InputInvalid
from batchyard.storage.door import Buckets
from batchyard.storage.near import nearest_url
from batchyard.storage.port import NotThere, Storage, StorageRefused, Stored


@dataclass(frozen=True)
class BucketRoot:
    """One path of the input, resolved. Names are keys.

    ``folder``: the key's fixed part with its slash, of a file the key itself. ``beginning``: what every listed key
    begins with. ``file``: what was found, when the path is a file's.
    """

    index: int
    field: str
    bucket: Storage
    folder: str
    beginning: str
    file: Stored | None
    picks: Picks

    def listed(self, after: str | None) -> Iterator[Listed]:
        """Yield every file, selected or not; ``after`` a key, that one and those behind it.

        Raises InputInvalid for what may not be listed, StorageUnavailable.
        """
        try:
            if self.file is not None:
                yield self._listed(self.file)
                return
            if after is not None:
                with suppress(NotThere):
                    yield self._listed(self.bucket.stat(after))
            for stored in self.bucket.list(beginning=self.beginning, after=after or ""):
                yield self._listed(stored if stored.etag else self.bucket.stat(stored.name))
        except StorageRefused as error:
            raise InputInvalid(f"{self.field}: {error}") from error

    def selects(self, below: str) -> bool:
        """Return whether the file of this key is selected."""
        if not self.picks.pick(below):
            return False
        inner = below[len(self.folder) :]
        return self.file is not None or not (inner.startswith(".") or "/." in inner) or self.picks.names_hidden

    def covers(self, path: str) -> bool:
        """Return whether this root gives the file at a URL."""
        root = self.bucket.url("")
        if not path.startswith(f"{root}/"):
            return False
        key = path[len(root) + 1 :]
        return (key == self.folder if self.file is not None else key.startswith(self.beginning)) and self.selects(key)

    def _listed(self, stored: Stored) -> Listed:
        url = self.bucket.url(stored.name)
        return Listed(self.index, stored.name, url, url, stored.size, stored.etag)


def bucket_root(
    index: int, field: str, written: str, buckets: Buckets, includes: list[str], excludes: list[str]
) -> BucketRoot:
    """Resolve an ``s3://`` path; asks the bucket what lies there. Raises InputInvalid, StorageUnavailable.

    With a slash at its end it is a prefix; else the key, if there is one, or the folder of this name.
    """
    try:
        bucket, key = buckets.of(written)
        found = _found(bucket, key)
        if found is None and has_magic(key):
            head, pattern = cut_at_glob(key)
            folder = f"{head}/" if head else ""
            picks = _picks(field, folder, includes, excludes, folder + pattern)
            return BucketRoot(index, field, bucket, folder, folder + literal_start(pattern), None, picks)
        if found is None:
            raise InputInvalid(_missing(field, written, bucket, key))
    except StorageRefused as error:
        raise InputInvalid(f"{field}: {error}") from error
    folder = found if isinstance(found, str) else found.name
    file = None if isinstance(found, str) else found
    return BucketRoot(index, field, bucket, folder, folder, file, _picks(field, folder, includes, excludes))


def _found(bucket: Storage, key: str) -> Stored | str | None:
    """Return the file that a key means, or the folder with its slash; None when nothing is there.

    What is asked first is what the name looks like, so that a job that may read but not list its one file can run.
    """
    folder = key if not key or key.endswith("/") else f"{key}/"
    looks_like_file = bool(key) and not key.endswith("/")
    refused: StorageRefused | None = None
    if looks_like_file and "." in key.rpartition("/")[2]:
        try:
            return bucket.stat(key)
        except NotThere:
            looks_like_file = False
        except StorageRefused:  # a folder below which it may read: listing tells
            pass
    try:
        if next(iter(bucket.list(beginning=folder)), None) is not None:
            return folder
    except StorageRefused as error:
        refused = error
    if looks_like_file:
        try:
            return bucket.stat(key)
        except NotThere:
            pass
        except StorageRefused:
            if refused is None:  # the answer to a HEAD has no reason in it, that to a listing has
                raise
    if refused is not None:
        raise refused
    return None


def _picks(field: str, folder: str, includes: list[str], excludes: list[str], glob: str | None = None) -> Picks:
    """Compile the patterns. Below a prefix with a dot in its name, wildcards match dots: the path has named it."""
    field = field.rpartition(".")[0]
    dots = folder.startswith(".") or "/." in folder
    return Picks(
        anchored(f"{field}.paths", glob) if glob else None,
        globs_of(f"{field}.includes", includes, dots=dots) if includes else None,
        globs_of(f"{field}.excludes", excludes, dots=dots),
    )


def _missing(field: str, written: str, bucket: Storage, key: str) -> str:
    if not key.rstrip("/"):
        return f"{field}: found {written!r}, and the bucket is empty, expected files in it."
    names = bucket.list(beginning=key.rstrip("/"))
    if next(iter(names), None) is not None:
        hint = f"found {written!r}, and only longer names begin so, expected a key or a folder's name; "
        return f"{field}: {hint}write {written.rstrip('/')}* for all that begin so."
    near = nearest_url(bucket, key)
    return Problem(
        field, f"{written!r}, and there is nothing at this key or below it", "a key, prefix or glob", nearest=near
    ).sentence()
