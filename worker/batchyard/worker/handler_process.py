"""One handler process seen from the worker: started, fed, heard, timed out, buried.

It knows frames, slots and signals, and nothing of queues: what an answer means for a batch is the loop's matter.
"""

import contextlib
import errno
import json
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from typing import IO, Any

from batchyard.api.process import PARENT_DEATH
from batchyard.worker import frames
from batchyard.worker.child import SLOT
from batchyard.worker.frames import Frame, Kind
from batchyard.worker.tags import Line, mark_of, parse

_READ = 1 << 18
_LONGEST_LINE = 1 << 16
_LAST_LINES = 20
_LAST_READS = 16  # more than a pipe holds; a program that left the group may write for ever


@dataclass(slots=True)
class Pipe:
    """One output stream of a handler process, cut into lines."""

    fd: int
    rest: bytearray = field(default_factory=bytearray)

    def read(self) -> list[Line] | None:
        """Return the next whole lines, None at the end of the stream. A line over 64 KiB comes in pieces."""
        try:
            data = os.read(self.fd, _READ)
        except BlockingIOError:
            return []
        if not data:
            return None
        self.rest += data
        *lines, last = self.rest.split(b"\n")
        self.rest = bytearray(last)
        if len(last) > _LONGEST_LINE:
            lines.append(last)
            self.rest = bytearray(mark_of(bytes(last[:64])))  # the next piece is of the same batch
        return [parse(bytes(line)) for line in lines]


class HandlerProcess:
    """A running child. ``in_hand`` maps sequence numbers to whatever the loop attached to them."""

    def __init__(self, number: int, threads: int, init: dict[str, Any]) -> None:
        self.number = number
        self.threads = threads
        self.in_hand: dict[int, Any] = {}
        self.is_ready = False
        self.is_doomed = False
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._crash: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        slots_file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        slots_file.truncate(SLOT.size * threads)
        self._slots = mmap.mmap(slots_file.fileno(), SLOT.size * threads)
        self.channel, theirs = socket.socketpair()
        self.channel.setblocking(False)
        for end in (self.channel, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        fds = [theirs.fileno(), slots_file.fileno(), self._crash.fileno()]
        self.popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "batchyard.worker.child", *map(str, fds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            start_new_session=True,
            bufsize=0,
            env={**os.environ, PARENT_DEATH: str(os.getpid())},
        )
        theirs.close()
        slots_file.close()
        assert self.popen.stdout is not None  # noqa: S101 - asked for above; tells the type checker
        assert self.popen.stderr is not None  # noqa: S101
        self.pipes = {"stdout": Pipe(self.popen.stdout.fileno()), "stderr": Pipe(self.popen.stderr.fileno())}
        for pipe in self.pipes.values():
            os.set_blocking(pipe.fd, False)
        self.pidfd = os.pidfd_open(self.popen.pid) if hasattr(os, "pidfd_open") else None
        self._reader = frames.Reader()
        self._outgoing: deque[memoryview] = deque()
        self.send(Kind.INIT, 0, json.dumps(init).encode())

    # --- the wire ---
    def send(self, kind: Kind, seq: int, *parts: bytes) -> None:
        """Queue one frame and send what the socket takes now."""
        self._outgoing.append(memoryview(frames.header(kind, seq, sum(map(len, parts)))))
        self._outgoing.extend(memoryview(part) for part in parts if part)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes; a process that is gone is noticed by its death, not here."""
        while self._outgoing:
            try:
                sent = self.channel.send(self._outgoing[0])
            except BlockingIOError:
                return
            except OSError:
                self._outgoing.clear()
                return
            if sent == len(self._outgoing[0]):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = self._outgoing[0][sent:]

    @property
    def wants_to_send(self) -> bool:
        """Whether the socket should be watched for writing."""
        return bool(self._outgoing)

    def read(self) -> list[Frame]:
        """Return the frames that have arrived."""
        try:
            data = self.channel.recv(_READ)
        except (BlockingIOError, ConnectionResetError):
            return []
        return self._cut(data)

    def drain(self) -> list[Frame]:
        """Return every frame that a dead process still sent."""
        found: list[Frame] = []
        while True:
            try:
                data = self.channel.recv(1 << 20)
            except OSError:
                return found
            if not data:
                return found
            found += self._cut(data)

    def _cut(self, data: bytes) -> list[Frame]:
        found: list[Frame] = []
        try:
            for frame in self._reader.feed(data):
                found.append(frame)  # what came before the fault counts
        except ValueError:  # user code wrote into the descriptor: nothing it says from here on can be trusted
            self.kill()
        return found

    def drain_lines(self) -> list[tuple[str, Line]]:
        """Return every line that a dead process still wrote, the unfinished last one too."""
        found: list[tuple[str, Line]] = []
        for name, pipe in self.pipes.items():
            for _ in range(_LAST_READS):
                lines = pipe.read()
                if not lines:
                    break
                found += [(name, line) for line in lines]
            if pipe.rest:
                found.append((name, parse(bytes(pipe.rest))))
                pipe.rest.clear()
        return found

    # --- what it is doing ---
    def running(self) -> dict[int, float]:
        """Return the sequence numbers in the slots that are still in hand, with their start (monotonic seconds)."""
        found = {}
        for thread in range(self.threads):
            start, seq = SLOT.unpack_from(self._slots, thread * SLOT.size)
            if seq in self.in_hand:
                found[seq] = start
        return found

    def stack(self) -> str:
        """Return what faulthandler wrote: the stacks at a crash or after ``ask_for_stack``."""
        self._crash.seek(0)
        return self._crash.read(16_000).decode("utf-8", "replace")

    # --- ending ---
    def ask_for_stack(self) -> None:
        """Let faulthandler write the stacks of all threads; works while the GIL is held."""
        self._signal(signal.SIGUSR1)

    def kill(self) -> None:
        """SIGKILL the process and what it started in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def is_dead(self) -> bool:
        """Whether the process has ended (without reaping it, so that its group's name stays ours)."""
        if self.pidfd is not None:
            return bool(select.select([self.pidfd], [], [], 0)[0])
        return self.popen.poll() is not None

    def bury(self) -> int:
        """Kill what is left of the group, reap, close; return the exit code, negative for a signal."""
        self.kill()
        code = self.popen.wait()
        self.channel.close()
        for stream in (self.popen.stdout, self.popen.stderr, self._crash):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._slots.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
        return code


def is_out_of_processes(error: OSError) -> bool:
    """Return whether starting a process failed for want of room (memory, process table): worth another try."""
    return error.errno in (errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE)
