"""From a BatchJob's spec to what the enqueuer is told; apart because one machine and a pod derive it alike."""

from pathlib import Path
from typing import Literal

from batchyard.api.spec import Spec
from batchyard.api.storage import storage_settings
from batchyard.enqueue.settings import EnqueueSettings, InputSettings


def enqueue_settings(
    spec: Spec,
    *,
    queue: str,
    job_id: str,
    folder: Path,
    work: str = "",
    allow_empty: bool = False,
    log_format: Literal["json", "text"] = "json",
) -> EnqueueSettings:
    """Return what the enqueuer is told. ``queue`` is its URL, ``folder`` what relative paths are relative to.

    ``work``: where batches over the queue's message limit go when the job does not say, "" for nowhere.
    """
    files = spec.input.files or spec.input.delimited_files
    source = InputSettings(
        kind=spec.input.kind,
        items=spec.input.items or [],
        paths=files.paths if files else [],
        includes=files.includes if files else [],
        excludes=files.excludes if files else [],
    )
    return EnqueueSettings(
        queue=queue,
        job_id=job_id,
        input=source,
        folder=folder,
        storage=storage_settings(spec.storage, work),
        batch_size=spec.input.batch_size,
        tolerate_malformed=spec.error_threshold is not None,
        allow_empty=allow_empty,
        log_format=log_format,
    )
