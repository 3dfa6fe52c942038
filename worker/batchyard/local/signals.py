"""Ctrl-C, SIGTERM and SIGHUP as a number that the runner looks at, and a wait that a signal or a child's end cuts.

Apart because signal handlers are the process's, not an object's: they are put back at the end.
"""

import contextlib
import os
import select
import signal
from types import FrameType, TracebackType
from typing import Any, Self

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While entered, signals that ask the process to end are counted instead. For the main thread."""

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[int, Any] = {}
        self._read, self._write = -1, -1
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        for number in _ASKING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background jobs, ask for that
                self._before[number] = signal.signal(number, self._on_asked)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _on_child)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _on_asked(self, _number: int, _frame: FrameType | None) -> None:
        self.asked += 1

    def wait(self, seconds: float) -> None:
        """Sleep, at most until the next signal or child's end."""
        select.select([self._read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)


def _on_child(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a handler must stand for the wait to be cut short."""
