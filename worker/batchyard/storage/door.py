"""Opens a folder or a prefix by its URL; apart so that only an ``s3://`` URL loads the S3 client."""

import threading

from batchyard.api.storage import StorageSettings
from batchyard.storage.local import LocalFolder
from batchyard.storage.port import Storage, StorageRefused, StoreOptions

SCHEME = "s3://"


def is_s3(url: str) -> bool:
    """Say whether a path lies in an object store."""
    return url.startswith(SCHEME)


def split(url: str) -> tuple[str, str]:
    """Return the bucket and the key of an ``s3://`` URL; as with the AWS CLI, nothing in it is escaped."""
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not is_s3(url) or not bucket:
        raise StorageRefused(f"{url!r} is no S3 URL: found no bucket, expected s3://BUCKET/KEY.")
    return bucket, key


def store_options(settings: StorageSettings) -> StoreOptions:
    """Return what a process was told as options of the door."""
    return StoreOptions(
        endpoint=settings.endpoint,
        region=settings.region,
        path_style=settings.path_style,
        requester_pays=settings.requester_pays,
    )


def open_folder(url: str, options: StoreOptions | None = None) -> Storage:
    """Open ``s3://bucket``, ``s3://bucket/prefix`` or a local path.

    Opening an S3 prefix finds credentials and asks the bucket nothing yet. Open it in the process that uses it: a
    client must not go through a fork.
    """
    if is_s3(url):
        bucket, prefix = split(url)
        try:
            from batchyard.storage.s3 import S3Folder
        except ModuleNotFoundError as error:
            raise StorageRefused(f"{url} needs the package {error.name}: pip install botocore.") from error
        return S3Folder(bucket, prefix, options or StoreOptions())
    if "://" in url:
        raise StorageRefused(f"{url!r} cannot be opened: expected s3://BUCKET/PREFIX or a local path.")
    return LocalFolder(url)


class Buckets:
    """The buckets that a process reads by URLs of many prefixes: one client each, made at its first use.

    Threads may share it.
    """

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._open: dict[str, Storage] = {}
        self._lock = threading.Lock()

    def of(self, url: str) -> tuple[Storage, str]:
        """Return the bucket of a URL, in which names are keys, and the URL's key. Raises StorageRefused."""
        bucket, key = split(url)
        with self._lock:
            if bucket not in self._open:
                self._open[bucket] = open_folder(f"{SCHEME}{bucket}", self._options)
            return self._open[bucket], key
