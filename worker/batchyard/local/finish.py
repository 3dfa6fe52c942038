"""The output folder before the first batch and after a stop; what a job that ends by itself writes is its workers'.

Apart from ``run`` because it is the only part of the runner that touches results.
"""

import time
from collections.abc import Callable

from batchyard.local.outcome import Outcome
from batchyard.local.plan import Plan
from batchyard.local.state import RunRecord
from batchyard.output.finish import write_errors, write_manifest
from batchyard.output.parts import MANIFEST, OutputUnavailable, Parts
from batchyard.queue.port import Queue


def check_output(plan: Plan) -> None:
    """Raise InvalidError when results could not be written."""
    if plan.output is not None:
        Parts(plan.output).check_writable()


def prepare_output(plan: Plan, *, is_new: bool) -> None:
    """Make the output folder ready: a new job's holds no results of an earlier one.

    A resumed job keeps its parts, but not the manifest of an end that was not the last: while that file stands it
    vouches for the rest.
    """
    if plan.output is None:
        return
    parts = Parts(plan.output)
    parts.prepare(fresh=is_new)
    parts.delete(MANIFEST)


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
