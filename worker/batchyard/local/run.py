"""One job from plan to outcome: takes or makes the run, goes round until the queue says that it is over, tells.

The runner decides nothing that the queue does not know: it may die at any line, and ``--resume`` goes on.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batchyard.api.names import batch_id
from batchyard.api.status import Reason
from batchyard.api.status import State as JobState
from batchyard.enqueue.sources import source_of
from batchyard.local import outcome as outcomes
from batchyard.local.crew import Crew, named_model_server
from batchyard.local.finish import close_output
from batchyard.local.logs import Tail, line_for_terminal
from batchyard.local.meter import Meter, View
from batchyard.local.outcome import Outcome, outcome
from batchyard.local.plan import Options, Plan, make_plan
from batchyard.local.prepare import Prepared, prepare
from batchyard.local.settings import enqueue_settings
from batchyard.local.signals import Signals
from batchyard.local.state import JobFolder
from batchyard.queue.port import QueueLost, QueueUnavailable, State

_TURN = 0.1  # seconds
_LEAVE = 12.0  # seconds that workers of a job that is over get; a halted one gives running batches 5 of them
_LINES_A_SECOND = 200
_FAILURES_TOLD = 10


class Observer(Protocol):
    """Whoever shows a run to a person."""

    def say(self, text: str) -> None:
        """Show one sentence of the runner's."""
        ...

    def show(self, view: View) -> None:
        """Show how far the job is; called about ten times a second."""
        ...

    def line(self, text: str) -> None:
        """Show a line of a handler's or a worker's."""
        ...


@dataclass(frozen=True, slots=True)
class FailureTold:
    """A batch that failed for good. ``id`` is what the handler knows as ``batch_id``."""

    batch: int
    id: str
    attempts: int
    reason: str
    error: str
    time: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to. ``seconds``: of this run, not of those it resumed. ``state`` is the queue's last word."""

    outcome: Outcome
    name: str
    job_id: str
    state: State
    failures: list[FailureTold]
    seconds: float
    items_per_second: float | None
    output: str | None
    folder: Path


def run(options: Options, observer: Observer) -> Summary:
    """Run, or go on with, the job of a manifest and return what it came to.

    Raises InvalidError when it cannot start: nothing was started or replaced then.
    """
    plan = make_plan(options)
    for note in plan.notes:
        observer.say(f"note: {note}")
    source_of(enqueue_settings(plan, ""))  # says what is wrong with the paths
    model_server = named_model_server(options.model_server) if plan.job.spec.handler.models else None
    folder = JobFolder(plan.state)
    with folder.hold():
        prepared = prepare(plan, folder, options, observer.say)
        try:
            return _Run(plan, folder, prepared, observer).go(model_server)
        finally:
            prepared.queue.close()


class _Run:
    """The loop. Lives in the main thread: children are tied to the thread that started them."""

    def __init__(self, plan: Plan, folder: JobFolder, prepared: Prepared, observer: Observer) -> None:
        self._plan = plan
        self._folder = folder
        self._prepared = prepared
        self._queue = prepared.queue
        self._observer = observer
        self._began = time.monotonic()
        self._meter = Meter(plan.job.spec.input.batch_size, self._began)
        self._state = prepared.queue.state()
        self._settled_before = self._state.counts.settled
        self._tails: dict[str, Tail] = {}
        self._lines_left = float(_LINES_A_SECOND)
        self._lines_at = self._began

    def go(self, model_server: str | None) -> Summary:
        """Run to the end and tell it."""
        if self._state.is_over:
            return self._summary(outcome(self._state))
        with Signals() as signals:
            crew = Crew(self._plan, self._folder, self._prepared.record, self._prepared.models, model_server)
            try:
                self._follow()
                self._loop(crew, signals)
                self._read_logs()
                crew.kill()
                self._look()
                ended = outcome(self._state, interrupted=signals.asked > 0)
                if self._state.halt is not None:
                    close_output(self._plan, self._prepared.record, self._queue, ended, self._observer.say)
            except QueueLost as error:
                ended = Outcome(JobState.FAILED, Reason.QUEUE_LOST, str(error), outcomes.FAILED)
            finally:
                crew.kill()
            return self._summary(ended)

    def _look(self) -> None:
        """Take the queue's latest word; the one before stays when it does not answer (a full disk)."""
        with contextlib.suppress(QueueUnavailable):
            self._state = self._queue.state()

    def _loop(self, crew: Crew, signals: Signals) -> None:
        """Go round until the job is over, or somebody asks to stop."""
        limit = self._plan.job.spec.timeout
        while not signals.asked:
            now = time.monotonic()
            try:
                self._state = self._queue.state()
                if self._state.is_over:
                    break
                halt = None
                if limit is not None and now - self._began > limit.seconds:
                    self._queue.halt("DeadlineExceeded", f"the job ran longer than spec.timeout, {limit}")
                else:
                    halt = crew.tick(now, self._state, self._queue)
                if halt:
                    self._queue.halt(halt.reason, halt.message)
                    continue
                self._show(crew.phase(self._state), crew.trouble())
            except QueueUnavailable as error:
                self._show("waiting for the queue", str(error))
                signals.wait(1.0)
            signals.wait(_TURN)
        self._leave(crew, signals)

    def _leave(self, crew: Crew, signals: Signals) -> None:
        """Let the workers end: of themselves when the job is over, else asked; a second signal does not wait."""
        is_over = self._state.is_over
        if is_over:
            crew.enqueuer.child.kill()
        else:
            crew.ask_to_stop()
            self._observer.say("stopping: running batches finish, nothing new is taken; once more stops at once")
        until = time.monotonic() + _LEAVE
        while crew.is_working:
            now = time.monotonic()
            if signals.asked > (1 if not is_over else 0) or (is_over and now > until):
                return
            if not is_over and crew.server:
                crew.server.tick(now)  # running batches may need it still
            self._look()
            self._show("ending" if is_over else "stopping", "")
            signals.wait(_TURN)

    # --- telling ---
    def _show(self, phase: str, why: str) -> None:
        self._read_logs()
        self._observer.show(self._meter.view(self._state, time.monotonic(), phase, why))

    def _follow(self) -> None:
        for number in range(self._plan.job.spec.workers):
            name = f"worker-{number}"
            self._tails[name] = Tail(self._folder.logs / f"{name}.log")

    def _read_logs(self) -> None:
        """Pass on what workers wrote, within a budget of lines a second."""
        now = time.monotonic()
        earned = (now - self._lines_at) * _LINES_A_SECOND
        self._lines_left = min(float(_LINES_A_SECOND), self._lines_left + earned)
        self._lines_at = now
        for name, tail in self._tails.items():
            lines, more = tail.read(int(self._lines_left))
            for raw in lines:
                text = line_for_terminal(raw, name_worker=len(self._tails) > 1)
                if text is not None:
                    self._lines_left -= 1
                    self._observer.line(text)
            if more:
                self._observer.line(f"… {more:,} more lines in {self._folder.logs / f'{name}.log'}")

    def _summary(self, ended: Outcome) -> Summary:
        seconds = time.monotonic() - self._began
        counts, size = self._state.counts, self._plan.job.spec.input.batch_size
        items = (counts.settled - self._settled_before) * size
        if self._state.items is not None:
            items = min(items, self._state.items)
        return Summary(
            outcome=ended,
            name=self._plan.name,
            job_id=self._prepared.record.job_id,
            state=self._state,
            failures=list(self._failures()),
            seconds=seconds,
            items_per_second=items / seconds if items and seconds > 0 else None,
            output=self._plan.output,
            folder=self._folder.root,
        )

    def _failures(self) -> Sequence[FailureTold]:
        try:
            newest = self._queue.recent_failures(_FAILURES_TOLD)
        except (QueueLost, QueueUnavailable):
            return []
        job_id = self._prepared.record.job_id
        return [
            FailureTold(
                f.index, batch_id(job_id, f.index), f.attempts, f.failure.reason, f.failure.error, f.failure.time
            )
            for f in newest
        ]
