"""The text of ``job.json``, the one file that every pod of a job starts from, and what doesn't fit into it."""

import json
from typing import Any

from batchyard.api.errors import InvalidError
from batchyard.api.names import queue_name
from batchyard.api.podfile import PodFile
from batchyard.api.spec import API_VERSION, KIND, MUTABLE, Spec

from batchyard_operator.model import Key
from batchyard_operator.settings import OperatorSettings

MAX_BYTES = 1 << 20  # of all values of a ConfigMap, as the API server checks it
_DRAIN_MARGIN = 5  # seconds of the grace period in which a worker leaves once its batches are settled or given back

_ADVICE = {
    ("input", "items"): "write the items to files, one JSON value a line, and name them in "
    "spec.input.delimitedFiles.paths",
    ("handler", "project", "inline"): "put the files into an archive and name it in spec.handler.project.s3, or into "
    "the image and name their folder in spec.handler.project.image",
    ("handler", "config"): "put large settings into a file of the project",
}


class JobTooLarge(InvalidError):
    """A manifest that the API server took is too large for the ConfigMap from which the job's pods start."""

    reason = "ManifestInvalid"


def podfile_text(key: Key, uid: str, spec: Spec, settings: OperatorSettings, start_time: float) -> str:
    """Return the JSON of the PodFile: the same text as long as the job's immutable spec and its workers are the same.

    What else may change while the job runs (``suspend``, ``timeout``, ``ttlSecondsAfterFinished``, labels) is the
    operator's business and left out, so that no change of it rewrites the ConfigMap. ``workers`` is in: handlers are
    told the number, and pods that start after a change of it are told the new one. Raises JobTooLarge.
    """
    given = spec.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
    for name in MUTABLE:
        if name != "workers":
            given.pop(name, None)
    file = PodFile(
        job={
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": given,
        },
        job_id=uid,
        queue=f"{settings.queue.url.rstrip('/')}/{queue_name(uid)}",
        start_time=start_time,
        work=settings.work,
        drain=float(max(0, settings.pods.grace - _DRAIN_MARGIN)),
        lease=settings.queue.lease,
    )
    text = _compact(dict(file))
    size = len(text.encode())
    if size > MAX_BYTES:
        raise JobTooLarge(_too_large(given, size))
    return text


def _too_large(spec: dict[str, Any], size: int) -> str:
    parts = {path: len(_compact(_at(spec, path)).encode()) for path in _ADVICE}
    largest = max(parts, key=lambda path: parts[path])
    return (
        f"spec.{'.'.join(largest)}: found {parts[largest]:,} bytes in a job of {size:,} bytes, expected a job of at "
        f"most {MAX_BYTES:,} bytes, as its pods read it from one ConfigMap ({_ADVICE[largest]})."
    )


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
