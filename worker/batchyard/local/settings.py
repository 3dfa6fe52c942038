"""What each process of a planned job is told at start; apart from ``plan``, which knows no process."""

from collections.abc import Callable, Sequence
from pathlib import Path

from batchyard.api.storage import storage_settings
from batchyard.enqueue import planned as enqueuing
from batchyard.enqueue.settings import EnqueueSettings
from batchyard.local.plan import Plan
from batchyard.models.fetch import ready_models
from batchyard.models.local import ServedModel
from batchyard.storage.door import store_options
from batchyard.worker import planned as working
from batchyard.worker.settings import ServingSettings, WorkerSettings


def served_models(plan: Plan, say: Callable[[str], None]) -> list[ServedModel]:
    """Return the job's models, linked or fetched below the job's folder; empty without any.

    ``say`` is told what is fetched. Raises ModelInvalid, StorageUnavailable.
    """
    models = plan.job.spec.handler.models
    if models is None:
        return []
    return ready_models(
        models,
        folder=plan.folder,
        links=plan.state / "models",
        downloads=plan.state / "downloads",
        options=store_options(storage_settings(plan.job.spec.storage)),
        say=say,
    )


def enqueue_settings(plan: Plan, queue: str) -> EnqueueSettings:
    """Return what the enqueuer is told."""
    return enqueuing.enqueue_settings(plan.job.spec, queue=queue, folder=plan.folder, allow_empty=plan.allow_empty)


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
    return working.worker_settings(
        plan.job,
        worker=worker,
        job_id=job_id,
        start_time=start_time,
        queue=queue,
        project=plan.project,
        output_path=str(plan.output) if plan.output else None,
        serving=serving,
        extra_paths=extra_paths,
    )
