"""One member of the pool: a handler process with what the pool knows of it, and when its time is up.

Apart from the pool because a time-out is a small story of its own: stacks first, then the neighbours' grace, then the
kill.
"""

from dataclasses import dataclass

from batchyard.queue.port import COMPLETION
from batchyard.worker.handler_process import HandlerProcess

_NEIGHBOURS_GRACE = 5.0  # seconds that other threads' batches get when one batch of their process timed out
_STACK_SECONDS = 0.3  # for faulthandler to write the stacks


@dataclass(slots=True)
class Member:
    """A handler process of the pool. ``completed``: batches it ended; ``alone``: it runs one suspect by itself."""

    process: HandlerProcess
    completed: int = 0
    last_result: float = 0.0
    alone: bool = False
    stack_at: float | None = None
    kill_at: float | None = None
    wants_job_spec: bool = False
    said_why: bool = False  # it reported its own end (INVALID, INIT_ERROR)

    def check_timeouts(self, now: float, limit: float) -> None:
        """Doom the process when a batch of it runs longer than ``limit`` seconds; kill it when its time is up."""
        process = self.process
        if not process.is_doomed and process.in_hand:
            self._doom_if_late(now, limit)
        if self.kill_at is None:
            return
        if now >= self.kill_at or all(process.in_hand[seq].timed_out for seq in process.running()):
            if self.stack_at is None:
                self.stack_at = now + _STACK_SECONDS  # the stacks are written while neighbours finish
            if now >= self.stack_at or now >= self.kill_at:
                process.kill()

    def _doom_if_late(self, now: float, limit: float) -> None:
        process = self.process
        running = process.running()
        for seq, start in running.items():
            work = process.in_hand[seq]
            if work.delivery.index != COMPLETION and now - start > limit:
                work.timed_out = process.is_doomed = True
        if process.is_doomed:
            others = any(not process.in_hand[seq].timed_out for seq in running)
            process.ask_for_stack()  # this may wake the batch from a system call and let it finish after all
            self.kill_at = now + (_NEIGHBOURS_GRACE if others else _STACK_SECONDS)
