"""The output folder before the first batch and after a stop; what a job that ends by itself writes is its workers'.

Apart from ``run`` because it is the only part of the runner that touches results.
"""

import time
from collections.abc import Callable

from batchyard.local.outcome import Outcome
from batchyard.local.plan import Plan
from batchyard.local.state import RunRecord
from batchyard.output.finish import write_errors, write_manifest
from batchyard.output.owner import Owner, check_owner, claim
from batchyard.output.parts import MANIFEST, OutputUnavailable, Parts
from batchyard.queue.port import Queue


def check_output(plan: Plan, known_run: str | None, *, resumes: bool = False) -> None:
    """Raise InvalidError when results could not be written, or the folder is not this job's.

    ``known_run``: the id of the job's run so far.
    """
    if plan.output is not None:
        parts = Parts(plan.output)
        check_owner(parts, _owner(plan, ""), known_run, resumes=resumes)
        parts.check_writable()


def claim_output(plan: Plan, job_id: str, known_run: str | None, *, resumes: bool = False) -> None:
    """Mark the output folder as this job's, before anything in it is touched. Raises OutputInvalid."""
    if plan.output is not None:
        claim(Parts(plan.output), _owner(plan, job_id), known_run, resumes=resumes)


def prepare_output(plan: Plan, *, is_new: bool) -> None:
    """Make the output folder, which is claimed, ready: a new job's holds no results of an earlier run.

    A resumed job keeps its parts, but not the manifest of an end that was not the last: while that file stands it
    vouches for the rest.
    """
    if plan.output is None:
        return
    parts = Parts(plan.output)
    parts.prepare(fresh=is_new)
    parts.delete(MANIFEST)


def _owner(plan: Plan, job_id: str) -> Owner:
    return Owner(job=plan.name, jobId=job_id, home=str(plan.state), path=str(plan.output))


def close_output(plan: Plan, record: RunRecord, queue: Queue, ended: Outcome, say: Callable[[str], None]) -> None:
    """Write ``errors.jsonl`` and ``manifest.json`` of a job that was stopped before its end."""
    if plan.output is None:
        return
    parts = Parts(plan.output)
    state = queue.state()
    try:
        write_errors(queue.failed(), record.job_id, parts)
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
    except OutputUnavailable as error:
        say(f"errors.jsonl and manifest.json could not be written: {error}")
