"""What the user is told at the end, as text and as JSON."""

from typing import Any

import click

from batchyard.cli.progress import clock
from batchyard.local.dry_run import DryRun
from batchyard.local.run import Summary

_MARKS = {0: "green", 3: "yellow", 130: "yellow"}
_TOLD = 5


def print_summary(summary: Summary, resume: str) -> None:
    """Print state, counts, speed, where everything is, the newest failures, and what to do next."""
    ended, counts = summary.outcome, summary.state.counts
    title = f"{summary.name}: {ended.state}"
    if ended.exit_code not in (0, 130):
        title += f" ({ended.reason})"
    click.secho(title, fg=_MARKS.get(ended.exit_code, "red"), bold=True)
    if ended.exit_code in (1, 130):  # else the counts below say the same
        click.echo(f"  {_indented(ended.message)}")
    total = "in all" if summary.state.sealed else "enqueued so far"
    click.echo(f"  batches   {counts.succeeded:,} succeeded, {counts.failed:,} failed, {counts.published:,} {total}")
    if summary.state.items is not None:
        click.echo(f"  items     {summary.state.items:,}")
    pace = f", {summary.items_per_second:,.1f} items/s" if summary.items_per_second else ""
    click.echo(f"  time      {_length(summary.seconds)}{pace}")
    if summary.output is not None:
        click.echo(f"  results   {summary.output}")
    click.echo(f"  logs      {summary.folder / 'logs'}")
    for failure in summary.failures[:_TOLD]:
        attempts = f"{failure.attempts} attempt{'s' if failure.attempts != 1 else ''}"
        click.echo(f"  batch {failure.batch}, {attempts}: {failure.reason}: {failure.error}")
    if len(summary.failures) > _TOLD or counts.failed > len(summary.failures):
        click.echo(f"  … {counts.failed - _TOLD:,} more")
    if counts.failed and summary.output is not None:
        click.echo(f"  each failure with its items and traceback: {summary.output}/errors.jsonl")
    if can_resume(summary):
        click.echo(f"  go on with: {resume}")


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def can_resume(summary: Summary) -> bool:
    """Return whether ``--resume`` would have something to do."""
    state = summary.state
    return summary.outcome.reason != "QueueLost" and (state.halt is not None or not state.is_over)


def as_json(summary: Summary, resume: str) -> dict[str, Any]:
    """Return the summary as the one object that ``--json`` prints."""
    ended, counts = summary.outcome, summary.state.counts
    return {
        "name": summary.name,
        "jobId": summary.job_id,
        "state": ended.state,
        "reason": ended.reason,
        "message": ended.message,
        "exitCode": ended.exit_code,
        "batches": {
            "total": summary.state.total,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "running": counts.running,
            "pending": counts.pending,
        },
        "items": summary.state.items,
        "durations": {"seconds": round(summary.seconds, 3)},
        "itemsPerSecond": round(summary.items_per_second, 3) if summary.items_per_second else None,
        "output": summary.output,
        "folder": str(summary.folder),
        "failures": [
            {
                "batch": f.batch,
                "batchId": f.id,
                "attempts": f.attempts,
                "reason": f.reason,
                "error": f.error,
                "time": f.time,
            }
            for f in summary.failures
        ],
        "resume": resume if can_resume(summary) else None,
    }


def print_dry_run(facts: DryRun) -> None:
    """Print what a run would do."""
    click.secho(f"{facts.name}: dry run, no batch was run", bold=True)
    if facts.counted is not None:
        counted = facts.counted
        files = f" from {counted.files:,} file{'s' if counted.files != 1 else ''}" if counted.files else ""
        click.echo(f"  input     {counted.items:,} items{files}")
        click.echo(f"  batches   {counted.batches:,} of {_sizes(facts)}")
        click.echo(f"  largest   {counted.largest_batch_bytes:,} bytes in one batch")
        for line in counted.malformed:
            click.echo(f"  malformed {line}")
        if counted.malformed_count > len(counted.malformed):
            click.echo(f"  … {counted.malformed_count - len(counted.malformed):,} more malformed lines")
    click.echo(f"  workers   {facts.workers} of {facts.processes} × {facts.threads} batches at a time")
    click.echo(f"  results   {facts.output or 'not kept (no spec.output)'}")
    for check in facts.checks:
        click.secho(f"  {check.what:<9} {_indented(check.message)}", fg=None if check.ok else "red")


def _sizes(facts: DryRun) -> str:
    """Return the size of the batches, and of the last one where it is smaller."""
    counted = facts.counted
    if counted is None or counted.batches <= 1:
        return f"{counted.items if counted else 0} items"
    last = counted.items - (counted.batches - 1) * facts.batch_size
    if 0 < last < facts.batch_size:
        return f"{facts.batch_size} items, the last one of {last}"
    return f"{facts.batch_size} items" if last == facts.batch_size else f"up to {facts.batch_size} items"


def dry_run_json(facts: DryRun) -> dict[str, Any]:
    """Return the facts as the one object that ``--json`` prints."""
    counted = facts.counted
    return {
        "name": facts.name,
        "dryRun": True,
        "ok": facts.exit_code == 0,
        "exitCode": facts.exit_code,
        "items": counted.items if counted else None,
        "batches": counted.batches if counted else None,
        "batchSize": facts.batch_size,
        "files": counted.files if counted else None,
        "bytes": counted.bytes if counted else None,
        "largestBatchBytes": counted.largest_batch_bytes if counted else None,
        "malformed": {"count": counted.malformed_count, "first": counted.malformed} if counted else None,
        "workers": facts.workers,
        "output": facts.output,
        "checks": [{"what": c.what, "ok": c.ok, "message": c.message} for c in facts.checks],
    }


def _indented(text: str) -> str:
    return "\n    ".join(line for line in text.splitlines() if line.strip())
