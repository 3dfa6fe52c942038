"""What a handler process and a handler are told of their job, as JSON values."""

from typing import Any

from batchyard.worker.settings import WorkerSettings


def child_init(settings: WorkerSettings) -> dict[str, Any]:
    """Return what a handler process is told at start, as JSON values."""
    handler = settings.handler
    return {
        "job_id": settings.job_id,
        "type": handler.type,
        "project": str(handler.project),
        "path": handler.path,
        "config": handler.config,
        "env": handler.env,
        "extra_paths": [str(path) for path in handler.extra_paths],
        "log_level": handler.log_level,
        "threads": settings.threads,
        "serving": settings.serving.model_dump(mode="json") if settings.serving else None,
        "output": settings.output is not None,
        "key": settings.output.key if settings.output else None,
    }


def job_spec(settings: WorkerSettings, batches: int, items: int) -> dict[str, Any]:
    """Return the ``job_spec`` of a handler that asks for it; the counts are of the sealed job."""
    return {
        "job_id": settings.job_id,
        "api_name": settings.job_name,
        "config": settings.handler.config,
        "workers": settings.workers,
        "total_batch_count": batches,
        "total_item_count": items,
        "start_time": settings.start_time,
    }
