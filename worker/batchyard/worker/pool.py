"""The handler processes of one worker: kept alive, fed, timed out; each death turned into the outcome of its batches.

Between ``handler_process`` (one child) and ``loop`` (the queue): it knows works and outcomes, no leases and no acks.
"""

import itertools
import json
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from batchyard.queue.port import COMPLETION, Failure
from batchyard.worker import core, frames
from batchyard.worker.frames import Frame, Kind
from batchyard.worker.handler_process import HandlerProcess, is_out_of_processes
from batchyard.worker.members import Member
from batchyard.worker.outcomes import AttemptFailed, End, GivenBack, Outcome, Refused, Succeeded, Work, share_out
from batchyard.worker.tags import Line

_WAITING_BYTES = 8 << 20
_REFUSALS = 3  # constructor exceptions before a handler that never stood is called invalid


class Pool:
    """``processes`` children with ``threads`` batches each; single-threaded, driven by the loop."""

    def __init__(
        self,
        size: int,
        threads: int,
        init: dict[str, Any],
        batch_timeout: float | None,
        selector: selectors.BaseSelector,
        on_line: Callable[[int, str, Line], None],
        say: Callable[[str, str], None],
        worker: str,
        patience: int = 10,
    ) -> None:
        """``patience``: deaths in a row, before a batch ran, that end the worker."""
        self._patience = patience
        self._size, self._threads, self._init = size, threads, init
        self._timeout = batch_timeout
        self._selector = selector
        self._on_line, self._say, self._worker = on_line, say, worker
        self._members: dict[int, Member] = {}
        self._start_at = dict.fromkeys(range(size), 0.0)
        self._failures = 0
        self._ever_ready = False
        self._seq = itertools.count(1)
        self._suspects: deque[Work] = deque()
        self._outcomes: list[Outcome] = []
        self._stopping = False
        self.has_on_job_complete = False  # known, and true to the end, once one process has stood
        self.refused: Refused | None = None
        self.seconds_a_batch: float | None = None
        self.job_spec: dict[str, Any] | None = None

    # --- what the loop asks ---
    @property
    def ready(self) -> list[Member]:
        """The members whose handler stands."""
        return [m for m in self._members.values() if m.process.is_ready and not m.process.is_doomed]

    @property
    def in_hand(self) -> int:
        """Works in processes, suspects that wait for a process of their own included."""
        return len(self._suspects) + sum(len(m.process.in_hand) for m in self._members.values())

    def room(self) -> int:
        """Return how many works ``feed`` would take now."""
        depth = core.feed_depth(self._threads, self.seconds_a_batch)
        return sum(max(0, depth - len(m.process.in_hand)) for m in self._open_members() if self._has_room(m, depth))

    def _has_room(self, member: Member, depth: int) -> bool:
        """Whether a process may be handed one more: large batches wait here once, not in every process."""
        held = member.process.in_hand
        if len(held) < self._threads:
            return True
        return len(held) < depth and sum(work.size for work in held.values()) < _WAITING_BYTES

    def _open_members(self) -> list[Member]:
        members = [m for m in self.ready if not m.alone]
        return members[1:] if self._suspects and members else members  # the first one empties for the next suspect

    def take_outcomes(self) -> list[Outcome]:
        """Return what ended since the last call."""
        found, self._outcomes = self._outcomes, []
        return found

    # --- feeding ---
    def feed(self, work: Work) -> bool:
        """Hand ``work`` to the process with the least in hand; False when none has room."""
        depth = core.feed_depth(self._threads, self.seconds_a_batch)
        member = min(self._open_members(), key=lambda m: len(m.process.in_hand), default=None)
        if member is None or not self._has_room(member, depth):
            return False
        self._hand(member, work)
        return True

    def _hand(self, member: Member, work: Work) -> None:
        seq = next(self._seq)
        work.fed_at = time.monotonic()
        member.process.in_hand[seq] = work
        delivery = work.delivery
        if delivery.index == COMPLETION:
            member.process.send(Kind.COMPLETE, seq)
        else:
            prefix = frames.batch_prefix(delivery.index, delivery.attempts + 1)
            member.process.send(Kind.BATCH, seq, prefix, work.body)
        self._watch(member)

    def _feed_suspects(self) -> None:
        while self._suspects:
            member = next((m for m in self.ready if not m.process.in_hand), None)
            if member is None:
                return
            member.alone = True
            self._hand(member, self._suspects.popleft())

    # --- the clock ---
    def tick(self, now: float) -> None:
        """Start what is missing, time out what runs too long, answer who waits for the job's facts."""
        if not self._stopping and self.refused is None:
            for number, due in list(self._start_at.items()):
                if due <= now:
                    self._start(number, now)
        for number, member in list(self._members.items()):
            if member.process.pidfd is None and member.process.is_dead():
                self._bury(number)
                continue
            if member.wants_job_spec and self.job_spec is not None:
                member.wants_job_spec = False
                member.process.send(Kind.JOB_SPEC, 0, json.dumps(self.job_spec).encode())
                self._watch(member)
            if self._timeout is not None:
                member.check_timeouts(now, self._timeout)
        self._feed_suspects()

    def _start(self, number: int, now: float) -> None:
        try:
            process = HandlerProcess(number, self._threads, self._init)
        except OSError as error:
            if not is_out_of_processes(error):
                raise
            self._say("WARNING", f"cannot start a handler process: {error}; trying again in 5 s")
            self._start_at[number] = now + 5.0
            return
        del self._start_at[number]
        member = self._members[number] = Member(process)
        self._selector.register(process.channel, selectors.EVENT_READ, lambda m: self._on_channel(number, m))
        for name, pipe in process.pipes.items():
            self._selector.register(pipe.fd, selectors.EVENT_READ, lambda _m, n=name: self._on_pipe(number, n))
        if process.pidfd is not None:
            self._selector.register(process.pidfd, selectors.EVENT_READ, lambda _m: self._bury(number))
        self._watch(member)

    def _watch(self, member: Member) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if member.process.wants_to_send else 0)
        key = self._selector.get_key(member.process.channel)
        if key.events != events:
            self._selector.modify(member.process.channel, events, key.data)

    # --- hearing ---
    def _on_channel(self, number: int, mask: int) -> None:
        member = self._members.get(number)
        if member is None:
            return
        if mask & selectors.EVENT_WRITE:
            member.process.flush()
        if mask & selectors.EVENT_READ:
            for frame in member.process.read():
                self._hear(member, frame)
        self._watch(member)

    def _on_pipe(self, number: int, name: str) -> None:
        member = self._members.get(number)
        if member is None:
            return
        pipe = member.process.pipes[name]
        lines = pipe.read()
        if lines is None and pipe.fd in self._selector.get_map():  # it was closed; a death is told elsewhere
            self._selector.unregister(pipe.fd)
        for line in lines or []:
            self._user_line(member, name, line)

    def _user_line(self, member: Member, name: str, line: Line) -> None:
        member.process.last_lines.append(line.text)
        if line.batch is None and (owner := self._owner(member)) is not None:
            line = Line(line.text, owner.delivery.index, owner.delivery.attempts + 1, line.level)
        self._on_line(member.process.number, name, line)

    def _owner(self, member: Member) -> Work | None:
        """Return the batch that a line without a mark belongs to.

        One thread runs batches in the order they were fed, and ``_catch_up`` reads its lines before its answer is
        taken: the oldest in hand wrote it. Its slot may be free already, or its successor's. Batches of milliseconds
        that are fed ahead may be taken for one another. Of several threads only a batch that runs by itself is named.
        """
        in_hand: dict[int, Work] = member.process.in_hand
        if self._threads == 1:
            return next(iter(in_hand.values()), None)
        running = member.process.running()
        return in_hand[next(iter(running))] if len(running) == 1 else None

    def _catch_up(self, member: Member) -> None:
        """Read what is in the pipes: it was written before the frame just received."""
        if self._threads == 1:  # with several the lines without a mark may be anybody's
            for name, pipe in member.process.pipes.items():
                for line in pipe.read() or []:
                    self._user_line(member, name, line)

    def _hear(self, member: Member, frame: Frame) -> None:
        match frame.kind:
            case Kind.READY:
                self._catch_up(member)
                member.process.is_ready = self._ever_ready = True
                self.has_on_job_complete = json.loads(frame.body)["on_job_complete"]
                self._feed_suspects()
            case Kind.WANTS_JOB_SPEC:
                member.wants_job_spec = True
            case Kind.INVALID:
                member.said_why = True
                told = json.loads(frame.body)
                self.refused = self.refused or Refused(told["reason"], told["message"])
            case Kind.INIT_ERROR:
                member.said_why = True
                self._constructor_raised(json.loads(frame.body))
            case Kind.RESULT | Kind.ERROR:
                work = member.process.in_hand.get(frame.seq)
                if work is not None:
                    self._catch_up(member)
                    del member.process.in_hand[frame.seq]
                    self._ended(member, work, frame)
            case _:
                raise ValueError(f"a handler process sent {frame.kind.name}")

    def _ended(self, member: Member, work: Work, frame: Frame) -> None:
        now = time.monotonic()
        took = now - max(work.fed_at, member.last_result)
        member.last_result = now
        member.completed += 1
        member.alone = False
        self._failures = 0
        known = self.seconds_a_batch
        self.seconds_a_batch = took if known is None else known * 0.9 + took * 0.1
        if frame.kind is Kind.RESULT:
            self._outcomes.append(Succeeded(work, frame.body))
            return
        told = json.loads(frame.body)
        if told["transient"]:
            self._outcomes.append(GivenBack(work, told["error"], transient=True))
        else:
            failure = Failure("HandlerError", told["error"], told["detail"], time.time(), self._worker)
            self._outcomes.append(AttemptFailed(work, failure))

    def _constructor_raised(self, told: dict[str, Any]) -> None:
        self._say("WARNING" if told["transient"] else "ERROR", f"the handler's constructor raised {told['error']}")
        if told["transient"]:
            return
        self._failures += 1
        if not self._ever_ready and self._failures >= min(_REFUSALS, self._patience):
            text = f"Handler.__init__ raised {told['error']}\n\n{told['detail']}"
            self.refused = self.refused or Refused("HandlerInvalid", text)

    # --- deaths ---
    def _bury(self, number: int) -> None:
        member = self._members.pop(number, None)
        if member is None:
            return
        process = member.process
        process.kill()  # what it forked must not go on writing while we read its last words
        for frame in process.drain():
            self._hear(member, frame)
        for name, line in process.drain_lines():
            self._user_line(member, name, line)
        running = process.running()
        stack = process.stack()
        self._unregister(process)
        code = process.bury()
        self._share_out(member, running, code, stack)
        self._start_at[number] = time.monotonic() + self._pause(member, running, code)

    def _unregister(self, process: HandlerProcess) -> None:
        pipes = [pipe.fd for pipe in process.pipes.values()]
        for watched in (process.channel, process.pidfd, *pipes):
            if watched is not None and watched in self._selector.get_map():
                self._selector.unregister(watched)

    def _share_out(self, member: Member, running: dict[int, float], code: int, stack: str) -> None:
        """Give each batch that the dead process held its outcome."""
        process = member.process
        told = core.death(code)
        lines, doomed = list(process.last_lines), process.is_doomed
        end = End(running, told, stack, lines, self._timeout, self._worker, stopping=self._stopping, doomed=doomed)
        outcomes, suspects = share_out(process.in_hand, end, time.time())
        self._outcomes += outcomes
        self._suspects += suspects
        if not (self._stopping or doomed or self.refused) and (running or process.is_ready):
            self._say("WARNING", f"handler process {process.number} {told}; starting another")

    def _pause(self, member: Member, running: dict[int, float], code: int) -> float:
        """Return the seconds before a replacement starts; give up after too many deaths in a row without a batch."""
        if member.completed or running or self._stopping:
            return 0.0
        if member.said_why:  # counted when it was said
            return 0.2 * 2.0 ** min(self._failures, 4)
        self._failures += 1
        if self._failures >= self._patience:
            last = "\n".join(member.process.last_lines)
            how = core.death(code)
            text = f"{self._failures} handler processes in a row died before they ran a batch, the last {how}"
            if self._failures == 1:
                text = f"the handler process {how} before it stood"
            self.refused = self.refused or Refused(None, f"{text}\n{last}")
        return 0.1 * 2.0 ** min(self._failures, 4)

    # --- the end ---
    def stop(self) -> None:
        """Let idle processes go; nothing is fed any more."""
        self._stopping = True
        for member in self._members.values():
            member.process.send(Kind.STOP, 0)
            self._watch(member)

    def give_up(self) -> None:
        """Kill every process; what they held is given back."""
        self._stopping = True
        for member in self._members.values():
            member.process.kill()
        self._outcomes += [GivenBack(work, "the worker stops") for work in self._suspects]
        self._suspects.clear()

    @property
    def is_empty(self) -> bool:
        """Whether every process is gone."""
        return not self._members
