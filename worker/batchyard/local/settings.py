"""What each process of a planned job is told at start; apart from ``plan``, which knows no process."""

from collections.abc import Sequence
from pathlib import Path

from batchyard.enqueue import planned as enqueuing
from batchyard.enqueue.settings import EnqueueSettings
from batchyard.local.plan import Plan
from batchyard.models.local import NamedPath, ServedModel, read_models
from batchyard.worker import planned as working
from batchyard.worker.settings import ServingSettings, WorkerSettings


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
