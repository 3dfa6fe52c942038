"""The output of a planned job before the first batch and after a stop; a job that ends by itself closes its own.

Apart from ``run`` because it is the only part of the runner that touches results.
"""

import time
from collections.abc import Callable

from batchyard.local.outcome import Outcome
from batchyard.local.plan import Plan
from batchyard.local.settings import located_storage
from batchyard.local.state import RunRecord
from batchyard.output import begin
from batchyard.output.finish import write_errors, write_manifest
from batchyard.output.owner import Owner
from batchyard.output.parts import OutputInvalid, OutputUnavailable, Parts
from batchyard.queue.port import Queue
from batchyard.storage.door import store_options
from batchyard.storage.port import StorageRefused, StorageUnavailable
from batchyard.storage.work import LargeBatches


def check_output(plan: Plan, known_run: str | None, *, resumes: bool = False) -> None:
    """Raise InvalidError when results could not be written, or the folder is not this job's.

    ``known_run``: the id of the job's run so far.
    """
    if plan.output is not None:
        begin.check_output(_parts(plan.output, plan), _owner(plan, ""), known_run, resumes=resumes)


def begin_output(
    plan: Plan, job_id: str, known_run: str | None, *, resumes: bool, before_clearing: Callable[[], object]
) -> None:
    """Make the output this job's own and ready; ``before_clearing`` is called in any case, before results go.

    Raises OutputInvalid, OutputUnavailable.
    """
    if plan.output is None:
        before_clearing()
        return
    owner, parts = _owner(plan, job_id), _parts(plan.output, plan)
    begin.begin_output(parts, owner, known_run, fresh=not resumes, resumes=resumes, before_clearing=before_clearing)


def _parts(path: str, plan: Plan) -> Parts:
    return Parts(path, store_options(located_storage(plan)))


def _owner(plan: Plan, job_id: str) -> Owner:
    return Owner(job=plan.name, jobId=job_id, home=str(plan.state), path=str(plan.output or ""))


def close_output(plan: Plan, record: RunRecord, queue: Queue, ended: Outcome, say: Callable[[str], None]) -> None:
    """Write ``errors.jsonl`` and ``manifest.json`` of a job that was stopped before its end."""
    if plan.output is None:
        return
    parts, told = _parts(plan.output, plan), located_storage(plan)
    state = queue.state()
    try:
        large = LargeBatches(told, record.job_id) if told.work else None
        write_errors(queue.failed(), record.job_id, parts, large)
        write_manifest(
            parts,
            job=plan.name,
            job_id=record.job_id,
            state=str(ended.state),
            start_time=record.start_time,
            completion_time=time.time(),
            counts=state.counts,
            items=state.items,
        )
    except (OutputInvalid, OutputUnavailable, StorageRefused, StorageUnavailable) as error:
        say(f"errors.jsonl and manifest.json could not be written: {error}")
