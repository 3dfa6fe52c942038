"""What a run would do, without running a batch: counts the input, loads the models, constructs the handler once.

Works in a temporary folder: a dry run must neither see nor touch a run of the same job.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from batchyard.api.errors import InvalidError
from batchyard.enqueue.count import InputFacts, count
from batchyard.local.crew import Crew, named_model_server
from batchyard.local.finish import check_output
from batchyard.local.logs import line_for_terminal
from batchyard.local.meter import Meter
from batchyard.local.outcome import FAILED, SUCCEEDED
from batchyard.local.plan import Options, Plan, make_plan
from batchyard.local.prepare import write_project
from batchyard.local.run import Observer
from batchyard.local.settings import enqueue_settings, served_models
from batchyard.local.signals import Signals
from batchyard.local.state import JobFolder, RunRecord, new_record
from batchyard.models.local import ServedModel
from batchyard.queue.port import Halt
from batchyard.queue.sqlite import SqliteQueue


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried: ``what`` in one word, and what came of it."""

    what: str
    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would do. ``counted`` is None when the input cannot be read; a check says why then."""

    name: str
    counted: InputFacts | None
    batch_size: int
    workers: int
    processes: int
    threads: int
    output: str | None
    checks: list[Check]

    @property
    def exit_code(self) -> int:
        """0 when every check passed, else 1, as the job would end."""
        return SUCCEEDED if all(check.ok for check in self.checks) else FAILED


def dry_run(options: Options, observer: Observer) -> DryRun:
    """Check everything a run needs. Raises InvalidError where a run would not start; KeyboardInterrupt."""
    plan = make_plan(options)
    for note in plan.notes:
        observer.say(f"note: {note}")
    model_server = named_model_server(options.model_server) if plan.job.spec.handler.models else None
    check_output(plan, JobFolder(plan.state).known_run())
    with tempfile.TemporaryDirectory(prefix="batchyard-dry-") as temporary:
        state = Path(temporary)
        project = state / "project" if plan.job.spec.handler.project else plan.project
        plan = replace(plan, state=state, project=project)
        folder = JobFolder(state)
        with folder.hold():
            write_project(plan)
            models = served_models(plan, observer.say)
            observer.say("counting the input")
            counted, input_check = _count(plan)
            record = new_record(plan.name, plan.manifest, {})
            checks = [input_check, *_try_parts(plan, folder, record, models, model_server, observer)]
    spec = plan.job.spec
    return DryRun(
        name=plan.name,
        counted=counted,
        batch_size=spec.input.batch_size,
        workers=spec.workers,
        processes=spec.handler.processes,
        threads=spec.handler.threads,
        output=plan.output,
        checks=checks,
    )


def _count(plan: Plan) -> tuple[InputFacts | None, Check]:
    settings = enqueue_settings(plan, "")
    try:
        counted = count(settings, SqliteQueue.max_body)
    except InvalidError as error:
        return None, Check("input", ok=False, message=str(error))
    if counted.malformed_count and not settings.tolerate_malformed:
        lines = f"{counted.malformed_count:,} malformed line{'s' if counted.malformed_count != 1 else ''}"
        message = f"{lines} would fail the job; spec.errorThreshold would let it go on"
        return counted, Check("input", ok=False, message=message)
    return counted, Check("input", ok=True, message="ok")


def _try_parts(
    plan: Plan,
    folder: JobFolder,
    record: RunRecord,
    models: list[ServedModel],
    model_server: str | None,
    observer: Observer,
) -> Iterator[Check]:
    """Yield a check for each part that a worker needs; the first that fails is the last."""
    queue = folder.create(record)
    began = time.monotonic()
    meter = Meter(plan.job.spec.input.batch_size, began)
    state = queue.state()
    crew = Crew(plan, folder, record, models, model_server)
    halt: Halt | None = None
    try:
        with Signals() as signals:
            while not halt and not crew.is_ready_for_workers:
                if signals.asked:
                    raise KeyboardInterrupt
                now = time.monotonic()
                halt = crew.prepare(now)
                if not halt and not crew.is_ready_for_workers:
                    observer.show(meter.view(state, now, crew.phase(state), crew.trouble()))
                signals.wait(0.1)
        if halt:
            what = "models" if halt.reason == "ModelInvalid" else "handler"
            yield Check(what, ok=False, message=halt.message)
            return
        if models:
            names = ", ".join(
                f"{m.name} ({'version' if len(m.versions) == 1 else 'versions'} {', '.join(map(str, m.versions))})"
                for m in models
            )
            yield Check("models", ok=True, message=f"loaded: {names}")
        yield _try_handler(plan, crew.write_worker_settings("worker-check"), observer)
    finally:
        crew.kill()
        queue.close()


def _try_handler(plan: Plan, settings: Path, observer: Observer) -> Check:
    observer.say("constructing the handler")
    argv = [sys.executable, "-P", "-m", "batchyard.worker", "--check", str(settings)]
    done = subprocess.run(argv, cwd=plan.state, capture_output=True, text=True, errors="replace", check=False)
    for raw in done.stdout.splitlines()[-200:]:
        text = line_for_terminal(raw, name_worker=False)
        if text:
            observer.line(text)
    if done.returncode == 0:
        shown = plan.job.spec.handler.path or "the built-in handler"
        return Check("handler", ok=True, message=f"ok: {shown}")
    return Check("handler", ok=False, message=done.stderr.strip() or f"ended with exit code {done.returncode}")
