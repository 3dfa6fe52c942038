"""What the ``fetch`` container does: everything that the worker and the model server of its pod start from.

The settings of the worker are written last: while they are missing, nothing of the job runs in this pod.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from batchyard.api.errors import InvalidError
from batchyard.api.status import Reason
from batchyard.enqueue.publish import Outcome
from batchyard.models.local import ServedModel
from batchyard.pod.dependencies import ready_dependencies
from batchyard.pod.models import ready_models, replace_file, write_models_config
from batchyard.pod.patience import patiently
from batchyard.pod.project import check_handler, ready_project
from batchyard.pod.publishing import publish
from batchyard.pod.told import Told, refuse_what_pods_lack
from batchyard.queue.port import Queue
from batchyard.worker.planned import serving_settings, worker_settings

Say = Callable[[str, str], None]

_STORES = 60.0  # seconds: whatever fetches from a store is patient by itself, with each file


class Blamed(InvalidError):
    """What a storage or another lower layer refused, with the part of the job that is to blame."""

    def __init__(self, reason: Reason, message: str):
        super().__init__(message)
        self.reason = str(reason)


def fetch(told: Told, queue: Queue, say: Say) -> int:
    """Make the pod ready and return the exit code. Raises InvalidError, QueueLost."""
    told.places.ours.mkdir(parents=True, exist_ok=True)
    if patiently(queue.state, say).is_over:
        return _nothing_to_do(told, say)
    refuse_what_pods_lack(told.job)
    handler = told.job.spec.handler
    has_script = handler.dependencies is not None and handler.dependencies.shell is not None
    with blamed_on(Reason.HANDLER_INVALID):
        project = patiently(lambda: ready_project(told), say, limit=_STORES)
        if not has_script:  # a script may make the file
            check_handler(told, project)
    if told.index == 0 and told.job.spec.input.kind == "items":
        with blamed_on(Reason.INPUT_INVALID):
            outcome = publish(told, queue, say)
        if outcome is Outcome.HALTED:
            return _nothing_to_do(told, say)
    with blamed_on(Reason.MODEL_INVALID):
        models = patiently(lambda: ready_models(told, project, say), say, limit=_STORES)
    with blamed_on(Reason.HANDLER_INVALID):
        paths = ready_dependencies(told, project, say)
        if has_script:
            check_handler(told, project)
    _write_worker_settings(told, project, models, paths)
    say("INFO", "the pod is ready for its worker")
    return 0


def _nothing_to_do(told: Told, say: Say) -> int:
    """Let the containers behind this one start, and find by themselves that the job is over: 0 is theirs to say."""
    say("INFO", "the job is over: nothing is fetched")
    told.places.project.mkdir(parents=True, exist_ok=True)
    write_models_config(told, [])
    _write_worker_settings(told, told.places.project, [], [])
    return 0


def _write_worker_settings(told: Told, project: Path, models: list[ServedModel], paths: list[Path]) -> None:
    file, output = told.file, told.job.spec.output
    settings = worker_settings(
        told.job,
        worker=told.pod,
        job_id=file.job_id,
        start_time=file.start_time,
        queue=file.queue,
        project=project,
        output_path=output.path if output else None,
        serving=serving_settings(models, f"unix:{told.places.serving_socket}"),
        extra_paths=paths,
        work=file.work,
        drain=file.drain,
        lease=file.lease,
    )
    # the container has the variables already, with what Kubernetes put in for $(NAME)
    handler = settings.handler.model_copy(update={"env": {}})
    settings = settings.model_copy(update={"handler": handler, "closes_halted": told.index == 0})
    replace_file(told.places.worker_settings, settings.model_dump_json(indent=2))


@contextmanager
def blamed_on(reason: Reason) -> Iterator[None]:
    """Give a refusal that names no reason of a job's status the one of the step that it came from."""
    try:
        yield
    except InvalidError as error:
        if error.reason in set(Reason):
            raise
        raise Blamed(reason, str(error)) from error
