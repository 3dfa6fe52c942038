"""What each process of a planned job is told at start; apart from ``plan``, which knows no process."""

from collections.abc import Sequence
from pathlib import Path

from batchyard.api.spec import Handler
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.local.plan import Plan
from batchyard.models.local import NamedPath, ServedModel, read_models
from batchyard.worker.settings import (
    HandlerSettings,
    ModelSettings,
    OutputSettings,
    RetrySettings,
    ServingSettings,
    ThresholdSettings,
    WorkerSettings,
)


def served_models(plan: Plan) -> list[ServedModel]:
    """Return the job's models, linked below the job's folder; empty without any. Raises ModelInvalid."""
    models = plan.job.spec.handler.models
    if models is None:
        return []
    return read_models(
        plan.folder,
        plan.state / "models",
        path=models.path,
        paths=[NamedPath(m.name, m.path, m.signature_key) for m in models.paths or []],
        directory=models.dir,
        signature_key=models.signature_key,
    )


def serving_settings(models: Sequence[ServedModel], target: str) -> ServingSettings | None:
    """Return what a worker is told of the model server, None when the job has no models."""
    if not models:
        return None
    entries = [ModelSettings(name=m.name, versions=list(m.versions), signature_key=m.signature_key) for m in models]
    return ServingSettings(target=target, models=entries)


def enqueue_settings(plan: Plan, queue: str) -> EnqueueSettings:
    """Return what the enqueuer is told."""
    spec = plan.job.spec
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
        input=source,
        folder=plan.folder,
        batch_size=spec.input.batch_size,
        tolerate_malformed=spec.error_threshold is not None,
        allow_empty=plan.allow_empty,
    )


def worker_settings(
    plan: Plan,
    worker: str,
    *,
    job_id: str,
    start_time: float,
    queue: str,
    serving: ServingSettings | None,
    extra_paths: Sequence[Path],
) -> WorkerSettings:
    """Return what one worker is told. ``start_time`` in unix seconds; ``queue``: its URL."""
    spec = plan.job.spec
    threshold, backoff = spec.error_threshold, spec.retry.backoff
    return WorkerSettings(
        job_id=job_id,
        job_name=plan.name,
        worker=worker,
        queue=queue,
        handler=_handler_settings(spec.handler, plan.project, extra_paths),
        serving=serving,
        output=OutputSettings(path=str(plan.output), key=spec.output.key) if plan.output and spec.output else None,
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
