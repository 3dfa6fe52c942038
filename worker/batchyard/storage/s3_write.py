"""Writes an object of unknown length: one request up to a part's size, else parts side by side, and no leftovers."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from batchyard.api.errors import BatchyardError
from batchyard.storage.port import Changed, NotThere
from batchyard.storage.s3_client import Bucket
from batchyard.storage.s3_errors import Unknown

PART = 16 << 20
_AT_ONCE = 4
_PUT = "s3:PutObject"
_ABORT = "s3:AbortMultipartUpload"


def put(bucket: Bucket, key: str, chunks: Iterable[bytes], part: int = PART) -> int:
    """Write an object, seen by readers at once and only when it is whole; return its size in bytes.

    Killed in the middle of a large one, its parts stay unseen until ``sweep`` removes them.
    """
    parts = _parts(chunks, part)
    first = next(parts, b"")
    second = next(parts, None)
    if second is None:
        bucket.call("put_object", _PUT, key, Body=first)
        return len(first)
    return _put_parts(bucket, key, _chained(first, second, parts))


def put_new(bucket: Bucket, key: str, data: bytes) -> bool:
    """Write a small object unless there is one; return whether it was written.

    A store that does not know ``If-None-Match`` is asked first whether there is one: two at the same moment are not
    told apart there. False also stands for an attempt that was written and whose answer was lost.
    """
    try:
        bucket.call("put_object", _PUT, key, Body=data, IfNoneMatch="*")
    except Changed:
        return False
    except Unknown:
        with suppress(NotThere):
            bucket.call("head_object", "s3:GetObject", key)
            return False
        bucket.call("put_object", _PUT, key, Body=data)
    return True


def sweep(bucket: Bucket, prefix: str) -> None:
    """Remove the parts that killed writers have left below a prefix."""
    marks: dict[str, Any] = {}
    while True:
        page = bucket.call("list_multipart_uploads", "s3:ListBucketMultipartUploads", Prefix=prefix, **marks)
        for upload in page.get("Uploads", []):
            if upload["Key"].startswith(prefix):
                bucket.call("abort_multipart_upload", _ABORT, upload["Key"], UploadId=upload["UploadId"])
        if not page.get("IsTruncated"):
            return
        marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _put_parts(bucket: Bucket, key: str, parts: Iterator[bytes]) -> int:
    upload = bucket.call("create_multipart_upload", _PUT, key)["UploadId"]
    size, sent = 0, []

    def send(number: int, data: bytes) -> dict[str, Any]:
        answer = bucket.call("upload_part", _PUT, key, UploadId=upload, PartNumber=number, Body=data)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        with ThreadPoolExecutor(_AT_ONCE, "s3-put") as pool:
            under_way: list[Future[dict[str, Any]]] = []
            for number, data in enumerate(parts, 1):
                size += len(data)
                if len(under_way) == _AT_ONCE:
                    sent.append(under_way.pop(0).result())
                under_way.append(pool.submit(send, number, data))
            sent += [one.result() for one in under_way]
        bucket.call("complete_multipart_upload", _PUT, key, UploadId=upload, MultipartUpload={"Parts": sent})
    except BaseException:
        with suppress(BatchyardError):  # the first error is the one to tell
            bucket.call("abort_multipart_upload", _ABORT, key, UploadId=upload)
        raise
    return size


def _parts(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the bytes in parts; they grow, since an upload has 10,000 at most and 5 TB must fit."""
    gathered, count = bytearray(), 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while not gathered and len(rest) >= (limit := size * 2 ** (count // 1500)):
            yield bytes(rest[:limit])
            rest = rest[limit:]
            count += 1
        gathered += rest
        while len(gathered) >= (limit := size * 2 ** (count // 1500)):
            yield bytes(memoryview(gathered)[:limit])
            del gathered[:limit]
            count += 1
    if gathered or not count:
        yield bytes(gathered)


def _chained(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest
