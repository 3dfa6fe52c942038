"""A prefix of a bucket as a job's storage. botocore is loaded with this module, which only the door imports."""

import io
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, BinaryIO, cast

from batchyard.storage import s3_read, s3_write
from batchyard.storage.local import PARTIAL
from batchyard.storage.port import StorageRefused, Stored, StoreOptions
from batchyard.storage.s3_client import Bucket

_BUFFER = 1 << 18
_DELETED_AT_ONCE = 1000


class S3Folder:
    """The objects below one prefix. A trailing slash of the prefix makes no difference."""

    def __init__(self, bucket: str, prefix: str, options: StoreOptions) -> None:
        """Set up the client; raise StorageRefused without credentials or with a wrong endpoint."""
        self._bucket = Bucket(bucket, options)
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""

    def url(self, name: str) -> str:
        """Return the URL of an object."""
        return self._bucket.url(self._prefix + name)

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write an object, replacing it at once and only when it is whole; return its size in bytes."""
        return s3_write.put(self._bucket, self._prefix + name, chunks)

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether it was written."""
        return s3_write.put_new(self._bucket, self._prefix + name, data)

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is removed already."""
        self._bucket.call("delete_object", "s3:DeleteObject", self._prefix + name)

    def delete_all(self, names: Iterable[str]) -> int:
        """Remove objects, a thousand a request; return how many names were given."""
        return self._delete_keys(self._prefix + name for name in names)

    def delete_folder(self, name: str) -> None:
        """Do nothing: a folder is but the beginning of keys."""

    def delete_below(self, below: str) -> int:
        """Remove every object below a prefix, folder markers too; return how many there were."""
        return self._delete_keys(key for key, _, _ in self._listed(self._below(below), ""))

    def list(self, below: str = "", *, beginning: str = "", after: str = "") -> Iterator[Stored]:
        """Yield the objects below a prefix, page by page. Empty keys that end with a slash mark folders: left out."""
        start = self._prefix + after if after else ""
        for key, size, etag in self._listed(self._below(below) + beginning, start):
            if size or not key.endswith("/"):
                yield Stored(key.removeprefix(self._prefix), size, etag)

    def stat(self, name: str) -> Stored:
        """Return an object's size and ETag; raise NotThere."""
        found = self._bucket.call("head_object", "s3:GetObject", self._prefix + name)
        return Stored(name, int(found["ContentLength"]), found.get("ETag", ""))

    @contextmanager
    def open(self, name: str, etag: str = "") -> Iterator[BinaryIO]:
        """Open an object for reading forward; a broken connection is taken up again where it broke."""
        with closing(s3_read.chunks(self._bucket, self._prefix + name, 0, None, etag)) as source:
            first = next(source, b"")  # what is wrong is told here, not at the first read
            yield cast(BinaryIO, io.BufferedReader(s3_read.ChunkReader(source, first), _BUFFER))

    def chunks(self, name: str, start: int = 0, stop: int | None = None, etag: str = "") -> Iterator[bytes]:
        """Yield the bytes from ``start`` to before ``stop``, fewer where the object ends."""
        return s3_read.chunks(self._bucket, self._prefix + name, start, stop, etag)

    def sweep(self) -> None:
        """Remove the parts that killed puts have left. Nobody may be writing."""
        s3_write.sweep(self._bucket, self._prefix)

    def check(self) -> str | None:
        """Write and delete a probe; return what is wrong, None when nothing is; raise StorageUnavailable."""
        probe = f"{PARTIAL}/probe-{uuid.uuid4().hex}"
        try:
            self.put(probe, [b"x"])
            self.delete(probe)
        except StorageRefused as error:
            return str(error)
        return None

    def close(self) -> None:
        """Close the connections."""
        self._bucket.close()

    def _below(self, below: str) -> str:
        return self._prefix + (f"{below.rstrip('/')}/" if below else "")

    def _listed(self, prefix: str, after: str) -> Iterator[tuple[str, int, str]]:
        """Yield key, size and ETag, with one page in memory."""
        more: dict[str, Any] = {"StartAfter": after} if after else {}
        while True:
            page = self._bucket.call("list_objects_v2", "s3:ListBucket", Prefix=prefix, **more)
            for found in page.get("Contents", []):
                yield found["Key"], int(found["Size"]), found.get("ETag", "")
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _delete_keys(self, keys: Iterable[str]) -> int:
        count, left = 0, iter(keys)
        while together := tuple(islice(left, _DELETED_AT_ONCE)):
            count += len(together)
            self._delete(together)
        return count

    def _delete(self, keys: tuple[str, ...]) -> None:
        objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._bucket.call("delete_objects", "s3:DeleteObject", Delete=objects)
        for failed in answer.get("Errors", []):
            url, code = self._bucket.url(failed.get("Key", "")), failed.get("Code", "no reason given")
            raise StorageRefused(
                f"{url}: it cannot be deleted ({code}): the credentials in use may lack s3:DeleteObject there."
            )
