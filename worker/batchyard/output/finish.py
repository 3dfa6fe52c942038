"""The files that close a job's output: ``errors.jsonl``, ``manifest.json``.

Both are derived from the queue and the parts alone, so whoever is killed while writing them, the next one writes the
same.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from batchyard.api.messages import decode_header
from batchyard.api.names import batch_id
from batchyard.output.parts import ERRORS, MANIFEST, PATTERN, Parts
from batchyard.queue.port import Counts, FailedBatch
from batchyard.storage.port import StorageRefused
from batchyard.storage.work import LargeBatches

_LINE_SPACE = bytes.maketrans(b"\r\n", b"  ")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished job wrote. Field names are those of ``manifest.json``; times are RFC 3339, in UTC.

    ``batches``: total, succeeded, failed. ``items``: items of the whole input. ``parts``: count, bytes, and the
    pattern of their names. ``errors``: the name of the file of failed batches, None without any.
    """

    job: str
    jobId: str  # noqa: N815 - as in the file
    state: str
    startTime: str  # noqa: N815
    completionTime: str  # noqa: N815
    batches: dict[str, int]
    items: int | None
    parts: dict[str, Any]
    errors: str | None
    batchyard: str


def write_errors(failed: Iterable[FailedBatch], job_id: str, parts: Parts, large: LargeBatches | None = None) -> int:
    """Write ``errors.jsonl``, one failed batch a line, and return how many; none removes a file from before.

    ``large``: where the items of batches lie that were published by reference. One body is in memory at a time.
    Raises OutputUnavailable, OutputInvalid, StorageUnavailable.
    """
    lines = iter(failed)
    first = next(lines, None)
    if first is None:
        parts.delete(ERRORS)
        return 0
    count = 0

    def chunks() -> Iterator[bytes]:
        nonlocal count
        batch: FailedBatch | None = first
        while batch is not None:
            yield error_line(batch, job_id, large)
            count += 1
            batch = next(lines, None)

    parts.put(ERRORS, chunks())
    return count


def error_line(batch: FailedBatch, job_id: str, large: LargeBatches | None = None) -> bytes:
    """Return one line of ``errors.jsonl``. Raises StorageUnavailable.

    The items are those of the message, byte for byte but for line breaks between tokens: a JSON string holds none.
    They are null where the queue's message, or what it refers to, is not what was published.
    """
    fields: dict[str, Any] = {
        "batch": batch.index,
        "batchId": batch_id(job_id, batch.index),
        "attempts": batch.attempts,
        "reason": batch.failure.reason,
        "error": batch.failure.error,
        "detail": batch.failure.detail,
        "time": rfc3339(batch.failure.time),
        "positions": None,
    }
    items = b"null"
    try:
        header = decode_header(batch.body)
    except ValueError:
        pass
    else:
        fields["positions"] = [header.first, header.first + header.count - 1]
        items = batch.body.partition(b"\n")[2] if not header.stored else _stored(batch.index, large)
    # Python's writer: an error's text may hold half a surrogate pair, which orjson refuses
    return json.dumps(fields).encode()[:-1] + b', "items": ' + items.translate(_LINE_SPACE) + b"}\n"


def _stored(index: int, large: LargeBatches | None) -> bytes:
    try:
        return large.get(index) if large else b"null"
    except StorageRefused:
        return b"null"


def write_manifest(
    parts: Parts,
    *,
    job: str,
    job_id: str,
    state: str,
    start_time: float,
    completion_time: float,
    counts: Counts,
    items: int | None,
) -> Manifest:
    """Write ``manifest.json`` and return it; call it last, after ``write_errors``. Times in unix seconds.

    The parts are counted as they lie there. Raises OutputUnavailable.
    """
    number = size = 0
    for stored in parts.written():
        number += 1
        size += stored.size
    manifest = Manifest(
        job=job,
        jobId=job_id,
        state=state,
        startTime=rfc3339(start_time),
        completionTime=rfc3339(completion_time),
        batches={"total": counts.published, "succeeded": counts.succeeded, "failed": counts.failed},
        items=items,
        parts={"count": number, "bytes": size, "pattern": PATTERN},
        errors=ERRORS if counts.failed else None,
        batchyard=_version(),
    )
    parts.put(MANIFEST, [json.dumps(asdict(manifest), indent=2).encode() + b"\n"])
    parts.finish()
    return manifest


def rfc3339(seconds: float) -> str:
    """Return a unix time as UTC with milliseconds, as Kubernetes writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _version() -> str:
    try:
        return version("batchyard")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
