"""From a BatchJob to what a worker is told; apart because one machine and a pod derive it alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from batchyard.api.spec import BatchJob, Handler
from batchyard.api.storage import storage_settings
from batchyard.models.local import ServedModel
from batchyard.worker.settings import (
    HandlerSettings,
    ModelSettings,
    OutputSettings,
    RetrySettings,
    ServingSettings,
    ThresholdSettings,
    WorkerSettings,
)


def serving_settings(models: Sequence[ServedModel], target: str) -> ServingSettings | None:
    """Return what a worker is told of the model server at ``target``, None when the job has no models."""
    if not models:
        return None
    entries = [ModelSettings(name=m.name, versions=list(m.versions), signature_key=m.signature_key) for m in models]
    return ServingSettings(target=target, models=entries)


def worker_settings(
    job: BatchJob,
    *,
    worker: str,
    job_id: str,
    start_time: float,
    queue: str,
    project: Path,
    output_path: str | None,
    serving: ServingSettings | None,
    extra_paths: Sequence[Path] = (),
    work: str = "",
    drain: float | None = None,
    lease: float = 30.0,
    log_format: Literal["json", "text"] = "json",
) -> WorkerSettings:
    """Return what one worker is told. ``start_time`` in unix seconds, ``drain`` and ``lease`` in seconds.

    ``worker`` is its name, ``queue`` the queue's URL, ``project`` where the handler runs. ``output_path``: where
    results go, absolute; None when they are not kept. ``work``: where batches over the queue's message limit are
    when the job does not say, "" for nowhere.
    """
    spec = job.spec
    threshold, backoff = spec.error_threshold, spec.retry.backoff
    return WorkerSettings(
        job_id=job_id,
        job_name=job.metadata.name,
        worker=worker,
        queue=queue,
        handler=_handler_settings(spec.handler, project, extra_paths),
        serving=serving,
        output=OutputSettings(path=output_path, key=spec.output.key) if output_path and spec.output else None,
        storage=storage_settings(spec.storage, work),
        retry=RetrySettings(
            max_attempts=spec.retry.max_attempts,
            backoff_initial=backoff.initial.seconds,
            backoff_max=backoff.max.seconds,
        ),
        threshold=ThresholdSettings(batches=threshold.batches, percent=threshold.percent)
        if threshold
        else ThresholdSettings(),
        batch_timeout=spec.batch_timeout.seconds if spec.batch_timeout else None,
        processes=spec.handler.processes,
        threads=spec.handler.threads,
        workers=spec.workers,
        start_time=start_time,
        lease=lease,
        drain=drain,
        log_format=log_format,
    )


def _handler_settings(handler: Handler, project: Path, extra_paths: Sequence[Path]) -> HandlerSettings:
    return HandlerSettings(
        type=handler.type,
        project=project,
        path=handler.path,
        config=handler.config,
        extra_paths=list(extra_paths),
        env={variable.name: variable.value or "" for variable in handler.env if variable.value_from is None},
        log_level=handler.log_level.upper(),
    )
