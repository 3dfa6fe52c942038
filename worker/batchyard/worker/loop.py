"""One worker: joins the queue's threads, the handler processes and the writer; all state lives in this one thread.

Order at the end of a batch: result durable, then settled in the queue. Whatever dies between the two leaves a batch
that runs again and overwrites its own part.
"""

import contextlib
import os
import queue as queues
import random
import selectors
import signal
import time

from batchyard.api.errors import BatchyardError
from batchyard.api.messages import Header, decode_header
from batchyard.queue.engines import open_queue
from batchyard.queue.port import COMPLETION, Delivery, Queue, State
from batchyard.worker import core, settling
from batchyard.worker.completion import JobOutput
from batchyard.worker.core import Ack, Bury, Release, Settlement
from batchyard.worker.facts import child_init, job_spec
from batchyard.worker.logs import Log
from batchyard.worker.outcomes import AttemptFailed, GivenBack, Outcome, Succeeded, Work
from batchyard.worker.pool import Pool
from batchyard.worker.results import Writer, Written
from batchyard.worker.settings import WorkerSettings
from batchyard.worker.stock import Fetched, Stock

EXIT_DONE, EXIT_FAILED, EXIT_INVALID, EXIT_TERMINATED = 0, 1, 64, 143
_TICK = 0.05
_HALT_GRACE = 5.0  # seconds that running batches get once the job is halted
_SETTLE_GRACE = 15.0  # seconds to wait for a queue that is away when nothing but settling is left
_HALT_PAUSE = 2.0  # seconds before a queue that is away is told again that the job is halted
_STOP_GRACE = 2.0  # seconds for idle handler processes to leave by themselves
_PREFETCH_BYTES = 64 << 20


class Worker:
    """Runs batches until the job is over, SIGTERM comes, or it cannot go on. Must live in the main thread."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._log = Log(settings.log_format, settings.job_name, settings.worker)
        self._selector = selectors.DefaultSelector()
        self._inbox: queues.SimpleQueue[settling.Event | Written | Fetched] = queues.SimpleQueue()
        self._wake_in, self._wake_out = os.pipe()
        for fd in (self._wake_in, self._wake_out):
            os.set_blocking(fd, False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, lambda _mask: None)
        self._pool = Pool(
            settings.processes,
            settings.threads,
            child_init(settings),
            settings.batch_timeout,
            self._selector,
            self._log.user,
            self._log.say,
            settings.worker,
        )
        self._receiver = settling.Receiver(self._open, self._say, settings.lease, settings.threshold)
        self._settler = settling.Settler(self._open, self._say, settings.lease, settings.threshold)
        self._output = JobOutput(settings)
        self._writer = Writer(self._say, to_store=settings.output is not None and "://" in settings.output.path)
        self._stock = Stock(self._output.open_large, self._say)
        self._requested = False
        self._unsettled = 0
        self._bytes_a_batch = 0.0
        self._state: State | None = None
        self._terminated = False
        self._leave_by: float | None = None
        self._settle_by: float | None = None
        self._exit: int | None = None
        self._halt_again = 0.0
        self.last_words = ""
        """Why it ended, when it could not go on."""
        self._said_ready = False
        self._trouble_said = 0.0

    # --- plumbing ---
    def _open(self) -> Queue:
        return open_queue(self._settings.queue, self._settings.worker)

    def _say(self, event: settling.Event | Written | Fetched) -> None:
        """Take an event of another thread, and wake the loop."""
        self._inbox.put(event)
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes just as well
            os.write(self._wake_out, b".")

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._terminated = True

    def run(self) -> int:
        """Return the exit code (docs/architecture.md)."""
        signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self._receiver.start()
        self._settler.start()
        try:
            while not self._is_finished():
                self._turn()
        finally:
            self._leave()
        if self._exit is not None:
            return self._exit
        return EXIT_DONE if self._state is not None and self._state.is_over else EXIT_TERMINATED

    def _turn(self) -> None:
        for key, mask in self._selector.select(_TICK):
            key.data(mask)
        # the pipe first, then the inbox: what is put after the read wakes the next turn
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_in, 1 << 16)
        while True:
            try:
                self._on_event(self._inbox.get_nowait())
            except queues.Empty:
                break
        self._pool.tick(time.monotonic())
        for outcome in self._pool.take_outcomes():
            self._on_outcome(outcome)
        self._check_end()
        if not self._is_leaving:
            while (work := self._stock.first) and self._writer.has_room and self._pool.feed(work):
                self._stock.pop()
            self._stock.fetch(self._pool.room())
            self._ask_for_more()
        self._log.flush()

    # --- the queue's words ---
    def _on_event(self, event: settling.Event | Written | Fetched) -> None:
        match event:
            case settling.Received(deliveries):
                self._requested = False
                self._settler.hold(deliveries)
                self._unsettled += len(deliveries)
                for delivery in deliveries:
                    self._take(delivery)
            case settling.Looked(state):
                self._state = state
                if state.total is not None and self._pool.job_spec is None:
                    self._pool.job_spec = job_spec(self._settings, state.total, state.items or 0)
            case settling.Settled(delivery, settlement, ours):
                self._unsettled -= 1
                self._stock.settled(delivery.index, succeeded=ours and isinstance(settlement, Ack))
                if not ours:
                    self._log.say("WARNING", "the lease had passed on; the batch runs again", batch=delivery.index)
                elif isinstance(settlement, Bury) and settlement.failure is not None:
                    self._log.say("ERROR", f"failed for good: {settlement.failure.error}", batch=delivery.index)
            case settling.Trouble(message, fatal):
                self._on_trouble(message, fatal=fatal)
            case Written(work, error):
                self._writer.take(event)
                self._on_written(work, error)
            case Fetched():
                self._on_fetched(event)

    def _on_trouble(self, message: str, *, fatal: bool) -> None:
        now = time.monotonic()
        if fatal:
            self._log.say("ERROR", message)
            self._end(EXIT_FAILED, message)
        elif now - self._trouble_said > 10.0:
            self._trouble_said = now
            self._log.say("WARNING", f"waiting for the queue: {message}")

    def _take(self, delivery: Delivery) -> None:
        if delivery.index == COMPLETION:
            self._begin_completion(delivery)
            return
        header: Header | None
        try:
            header = decode_header(delivery.body)
        except ValueError:
            header = None
        work = Work(delivery, header)
        self._bytes_a_batch = max(work.size, self._bytes_a_batch * 0.9)
        if self._is_leaving:
            self._settle(delivery, Release())
        elif burial := core.before_run(delivery, header, self._settings):
            self._settle(delivery, burial)
        else:
            self._stock.add(work)

    def _on_fetched(self, event: Fetched) -> None:
        """Go on with a batch whose items were fetched; an interruption where they can't be, no attempt of it."""
        settlement = self._stock.take(event)
        if settlement is None:
            if self._is_leaving:
                self._release_stock()
            return
        delivery = event.work.delivery
        self._settle(delivery, settlement)
        if event.transient:
            self._log.say(
                "WARNING", f"given back, its items cannot be fetched now: {event.error}", batch=delivery.index
            )
        elif not event.gone and not self._is_leaving:
            self._halt("InputInvalid", f"storage.work: the items of batch {delivery.index}: {event.error}")

    def _settle(self, delivery: Delivery, settlement: Settlement) -> None:
        self._settler.settle(delivery, settlement)

    def _ask_for_more(self) -> None:
        """Keep the processes fed and a little in reserve; nothing is taken before a handler stands."""
        ready = len(self._pool.ready)
        if self._requested or not ready:
            return
        if not self._said_ready:
            self._said_ready = True
            self._log.say("INFO", "ready for the first batch")
        ahead = core.prefetch(ready, self._pool.seconds_a_batch)
        if self._bytes_a_batch:
            ahead = min(ahead, int(_PREFETCH_BYTES / self._bytes_a_batch))
        wanted = self._pool.room() + ahead - len(self._stock)
        if wanted > 0:
            self._requested = True
            self._receiver.request(wanted)

    # --- what became of a batch ---
    def _on_outcome(self, outcome: Outcome) -> None:
        delivery = outcome.work.delivery
        match outcome:
            case Succeeded(work, lines):
                work.fetched = b""
                if delivery.index != COMPLETION and self._output.is_wanted:
                    self._writer.submit(work, lambda: self._output.write_part(delivery.index, lines), len(lines))
                else:
                    self._settle(delivery, Ack())
            case AttemptFailed(_, failure):
                what = "on_job_complete" if delivery.index == COMPLETION else f"batch {delivery.index}"
                message = f"{what}, attempt {delivery.attempts + 1}: {failure.error}"
                self._log.say("WARNING", message, batch=delivery.index, detail=failure.detail)
                retry = self._settings.retry
                jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
                self._settle(delivery, core.after_failure(delivery, failure, retry, jitter))
            case GivenBack(work, reason, transient):
                if self._is_leaving:
                    self._settle(delivery, Release())
                elif transient:
                    self._log.say("WARNING", f"given back: {reason}", batch=delivery.index)
                    self._settle(delivery, Release(delay=1.0))
                else:
                    self._stock.add_first(work)

    def _on_written(self, work: Work, error: str | None) -> None:
        if error is not None:
            self._settle(work.delivery, Release())
            if not self._is_leaving:
                self._halt("OutputUnavailable", error)
        elif work.delivery.index == COMPLETION and self._pool.has_on_job_complete:
            self._stock.add(work)
        else:
            self._settle(work.delivery, Ack())

    def _begin_completion(self, delivery: Delivery) -> None:
        """Write what closes the output, then run ``on_job_complete``: it may read the whole of it."""
        work = Work(delivery, None)
        if self._is_leaving:
            self._settle(delivery, Release())
        elif burial := core.used_up(delivery, self._settings):
            self._settle(delivery, burial)
        else:
            self._writer.submit(work, lambda: self._output.write_closing_files(self._open))

    # --- the end ---
    @property
    def _is_leaving(self) -> bool:
        return self._leave_by is not None or self._exit is not None

    def _end(self, code: int, why: str) -> None:
        self._exit, self.last_words = code, why

    def _halt(self, reason: str, message: str) -> bool:
        """Stop the job for everyone; False when the queue is away and was not told."""
        self._log.say("ERROR", f"{reason}: {message}")
        try:
            with contextlib.closing(self._open()) as handle:
                handle.halt(reason, message)
        except BatchyardError as error:
            self._log.say("ERROR", f"the queue could not be told: {error}")
            return False
        return True

    def _check_refusal(self, now: float) -> None:
        """End with the handler's fault, but not a job that is over, nor before the queue knows why."""
        refused = self._pool.refused
        if refused is None or self._is_leaving or self._terminated or self._state is None or self._state.is_over:
            return
        if refused.reason is None:
            self._log.say("ERROR", refused.message)
            self._end(EXIT_FAILED, refused.message)
        elif now >= self._halt_again:
            self._halt_again = now + _HALT_PAUSE
            if self._halt(refused.reason, refused.message):
                self._end(EXIT_INVALID, refused.message)

    def _check_end(self) -> None:
        now = time.monotonic()
        self._check_refusal(now)
        if self._leave_by is None:
            if self._state is not None and self._state.is_over:
                self._begin_leaving(now, _HALT_GRACE)
            elif self._terminated or self._exit is not None:
                drain = self._settings.drain if self._exit is None else 0.0
                self._log.say("INFO", "stopping: running batches finish, the rest goes back")
                self._begin_leaving(now, float("inf") if drain is None else drain)
        if self._leave_by is not None:
            if now >= self._leave_by:
                self._pool.give_up()
            if self._settle_by is None and not (self._pool.in_hand or self._writer.under_way):
                self._settle_by = now + _SETTLE_GRACE

    def _begin_leaving(self, now: float, grace: float) -> None:
        self._leave_by = now + grace
        self._writer.hurry()
        self._receiver.stop()
        self._release_stock()

    def _release_stock(self) -> None:
        for work in self._stock.clear():
            self._settle(work.delivery, Release())

    def _is_finished(self) -> bool:
        if self._leave_by is None:
            return False
        if not self._settler.is_alive():
            return True  # the queue is gone: nothing can be settled
        if self._settle_by is not None and time.monotonic() > self._settle_by:
            self._settler.abandon()  # the queue is away: the leases run out by themselves
            return True
        if self._receiver.is_alive() or not self._inbox.empty():  # in this order: its last words may be an answer
            return False
        return not (self._pool.in_hand or self._writer.under_way or self._unsettled)

    def _leave(self) -> None:
        """Let handler processes end, close what is open; never longer than a few seconds."""
        self._pool.stop()
        deadline = time.monotonic() + _STOP_GRACE
        while not self._pool.is_empty:
            now = time.monotonic()
            if now >= deadline or (self._terminated and self._exit is not None):
                self._pool.give_up()
            for key, mask in self._selector.select(_TICK):
                key.data(mask)
            self._pool.tick(now)
        self._settler.finish()
        self._writer.close()
        self._stock.close()
        self._settler.join(timeout=5.0)
        is_halted = self._exit == EXIT_INVALID or (self._state is not None and self._state.halt is not None)
        if self._settings.closes_halted and is_halted:
            self._close_halted()
        self._log.flush()

    def _close_halted(self) -> None:
        """Close the output of a job that was stopped: nobody takes the completion token, which else sees to it."""
        try:
            self._output.write_halted_files(self._open)
        except BatchyardError as error:
            self._log.say("WARNING", f"errors.jsonl and manifest.json could not be written: {error}")
