"""What each process of a planned job is told at start; apart from ``plan``, which knows no process."""

from collections.abc import Callable, Sequence
from pathlib import Path

from batchyard.api.storage import StorageSettings, storage_settings
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


def enqueue_settings(plan: Plan, queue: str, job_id: str = "") -> EnqueueSettings:
    """Return what the enqueuer is told; one that only looks at the input needs neither queue nor id."""
    told = enqueuing.enqueue_settings(
        plan.job.spec, queue=queue, job_id=job_id, folder=plan.folder, allow_empty=plan.allow_empty
    )
    return told.model_copy(update={"storage": located_storage(plan)})


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
    told = working.worker_settings(
        plan.job,
        worker=worker,
        job_id=job_id,
        start_time=start_time,
        queue=queue,
        project=plan.project,
        output_path=plan.output,
        serving=serving,
        extra_paths=extra_paths,
    )
    return told.model_copy(update={"storage": located_storage(plan)})


def located_storage(plan: Plan) -> StorageSettings:
    """Return how the store is reached, with an absolute work folder: a relative one starts at the manifest's."""
    told = storage_settings(plan.job.spec.storage)
    if not told.work or "://" in told.work:
        return told
    return told.model_copy(update={"work": str((plan.folder / Path(told.work).expanduser()).absolute())})
