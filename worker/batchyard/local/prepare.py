"""Decides what a command may do with the run it finds in the job's folder, and makes or opens the queue.

Apart from ``state``, which knows how the folder is kept whole, and from ``run``, which starts at a ready queue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchyard.api.storage import storage_settings
from batchyard.handler.load import find
from batchyard.local.finish import begin_output, check_output
from batchyard.local.outcome import outcome
from batchyard.local.plan import Options, Plan
from batchyard.local.settings import served_models
from batchyard.local.state import JobFolder, RunRecord, RunRefused, changed_field, new_record
from batchyard.models.local import ServedModel
from batchyard.projects.fetch import ready_project
from batchyard.projects.files import write_inline
from batchyard.queue.port import State
from batchyard.queue.sqlite import SqliteQueue
from batchyard.storage.door import store_options


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run whose queue is open. ``models`` are empty for a job without any."""

    record: RunRecord
    queue: SqliteQueue
    models: Sequence[ServedModel]


def prepare(plan: Plan, folder: JobFolder, options: Options, say: Callable[[str], None]) -> Prepared:
    """Check what needs the job's folder, then open the run to go on with or make a new one.

    Raises InvalidError before anything of an earlier run is touched.
    """
    record = None
    known_run = folder.known_run()
    if not options.restart:
        record = folder.read_record()
    found = None if record is None else _look(folder)
    if options.resume and record is not None:
        return _resume(plan, folder, record, say)
    _refuse_to_lose(found, say)
    check_output(plan, known_run)
    write_project(plan)
    models = served_models(plan, say)
    record = new_record(plan.name, plan.manifest, plan.fixed())
    # forgotten before results go: a kill from there on leaves no run that could be resumed without them
    begin_output(plan, record.job_id, known_run, resumes=False, before_clearing=folder.forget)
    if options.resume:
        say("nothing to resume: the job starts from the beginning")
    return Prepared(record, folder.create(record), models)


def _look(folder: JobFolder) -> State:
    queue = folder.open()
    try:
        return queue.state()
    finally:
        queue.close()


def _refuse_to_lose(found: State | None, say: Callable[[str], None]) -> None:
    """Refuse to replace work that nobody gave up; say it when an ended run is replaced."""
    if found is None:
        return
    counts = found.counts
    if found.is_over:
        ended = outcome(found)
        say(f"the earlier run of this job ended as {ended.state} ({ended.reason}); this run replaces it")
    elif counts.settled:
        raise RunRefused(
            f"an earlier run of this job is not finished: {counts.settled:,} of "
            f"{counts.published:,}{'' if found.sealed else ' or more'} batches are settled. "
            "Go on with it: --resume. Start anew and drop its results: --restart"
        )


def _resume(plan: Plan, folder: JobFolder, record: RunRecord, say: Callable[[str], None]) -> Prepared:
    field = changed_field(record.fixed, plan.fixed())
    if field is not None:
        raise RunRefused(
            f"{field} is not what it was when this job started, so it cannot be resumed: its batches are cut and its "
            "results are written already. Put it back as it was, or start anew with --restart"
        )
    queue = folder.open()
    state = queue.state()
    if state.is_over and state.halt is None:
        ended = outcome(state)
        say(f"nothing to resume: this job ended as {ended.state}")
        return Prepared(record, queue, [])
    check_output(plan, record.job_id, resumes=True)
    write_project(plan)
    models = served_models(plan, say)
    begin_output(plan, record.job_id, record.job_id, resumes=True, before_clearing=lambda: None)
    queue.reclaim(None, lost=False)  # the lock is ours: whoever held a lease is gone, by no fault of its batch
    if state.halt is not None:
        say(f"going on with a job that had stopped: {state.halt.reason}")
        queue.resume()
    counts = state.counts
    say(f"resuming: {counts.settled:,} of {counts.published:,} batches published so far are settled")
    return Prepared(record, queue, models)


def write_project(plan: Plan) -> None:
    """Bring the files of ``handler.project``, and only those, to the job's folder.

    Raises InvalidError, StorageUnavailable.
    """
    spec = plan.job.spec
    project = spec.handler.project
    if project is None:
        return
    try:
        if project.inline is not None:
            write_inline(project.inline, plan.project)
        elif project.s3 is not None:
            ready_project(project.s3, plan.project, store_options(storage_settings(spec.storage)))
            if spec.handler.path is not None:
                find(plan.project, spec.handler.path)
    except OSError as error:
        raise RunRefused(
            f"the files of spec.handler.project.{project.kind} cannot be written to {plan.project} "
            f"({error.strerror}): free space there, or name another folder with --state-dir DIR"
        ) from error
