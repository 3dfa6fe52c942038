"""The output folder before the first batch and after a stop; what a job that ends by itself writes is its workers'.

Apart from ``run`` because it is the only part of the runner that touches results.
"""

from collections.abc import Callable

from batchyard.api.errors import BatchyardError
from batchyard.local.outcome import Outcome
from batchyard.local.plan import Plan
from batchyard.local.state import RunRecord
from batchyard.output.finish import write_errors, write_manifest
from batchyard.output.parts import Parts
from batchyard.queue.port import Queue


def check_output(plan: Plan) -> None:
    """Raise InvalidError when results could not be written."""
    if plan.output is not None:
        Parts(plan.output).check_writable()


def prepare_output(plan: Plan, *, is_new: bool) -> None:
    """Make the output folder ready: a new job's holds no results of an earlier one."""
    if plan.output is None:
        return
    parts = Parts(plan.output)
    parts.prepare()
    if is_new:
        parts.sweep()


def close_output(plan: Plan, record: RunRecord, queue: Queue, ended: Outcome, say: Callable[[str], None]) -> None:
    """Write ``errors.jsonl`` and ``manifest.json`` of a job that was stopped before its end."""
    if plan.output is None:
        return
    try:
        write_errors(plan.output, record.job_id, queue)
        write_manifest(plan.output, record.job_id, queue, ended)
    except (OSError, BatchyardError) as error:
        say(f"errors.jsonl and manifest.json could not be written: {error}")
