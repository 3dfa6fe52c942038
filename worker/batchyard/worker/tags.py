"""Lines of user code with the batch that printed them: the child marks each line, the worker reads the mark.

Exact with several threads, which the order of lines on a pipe alone could not tell. What a C library writes to the
descriptor itself comes without a mark; the worker then takes the running batch, if there is only one.
"""

import io
import logging
import re
import sys
import threading
from functools import lru_cache
from typing import NamedTuple, TextIO

_START, _END = "\x1e", "\x1f"
_START_BYTE, _END_BYTE = b"\x1e", b"\x1f"
_MARK = re.compile(rb"\x1e(?:(-?[0-9]{1,18}),([0-9]{1,18}))?,([^\x1e\x1f,]*)\x1f")
_LONGEST_REST = 8192  # characters of an unfinished line that are held back
_local = threading.local()


class Line(NamedTuple):
    """One line of a handler process. ``batch`` is None outside of a batch, -1 in on_job_complete."""

    text: str
    batch: int | None = None
    attempt: int | None = None
    level: str | None = None


def enter(batch: int, attempt: int) -> None:
    """Mark what this thread prints from now on."""
    _local.mark = f"{batch},{attempt}"


def leave() -> None:
    """Mark nothing any more."""
    _local.mark = ""


def _mark(level: str = "") -> str:
    return f"{_START}{getattr(_local, 'mark', '')},{level}{_END}"


def parse(raw: bytes) -> Line:
    """Return the line behind ``raw`` (without its newline)."""
    end = raw.find(_END_BYTE) + 1 if raw.startswith(_START_BYTE) else 0
    fields = _fields(raw[:end]) if end else None
    if fields is None:
        return Line(raw.decode("utf-8", "replace"))
    return Line(raw[end:].decode("utf-8", "replace"), *fields)


def mark_of(start: bytes) -> bytes:
    """Return the mark that a line which begins with ``start`` carries, empty if none."""
    found = _MARK.match(start)
    return found[0] if found else b""


@lru_cache(maxsize=256)  # a batch that prints, prints many lines
def _fields(mark: bytes) -> tuple[int | None, int | None, str | None] | None:
    found = _MARK.fullmatch(mark)
    if found is None:
        return None
    batch, attempt, level = found.groups()
    name = level.decode("utf-8", "replace") or None
    return (None, None, name) if batch is None else (int(batch), int(attempt), name)


class MarkedStream(io.TextIOBase):
    """A text stream that marks each line; lines of several threads do not mix."""

    def __init__(self, under: TextIO) -> None:
        self._under = under
        self._lock = threading.Lock()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the attribute of TextIOBase is read-only here
        """The encoding of what is written."""
        return "utf-8"

    @property
    def buffer(self) -> io.BufferedIOBase:
        """The byte stream below, for code that writes bytes; such lines carry no mark."""
        return self._under.buffer  # type: ignore[return-value]  # BinaryIO in typeshed, a BufferedWriter in fact

    def fileno(self) -> int:
        """Return the descriptor below."""
        return self._under.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write text; whole lines go out at once, the rest waits for its newline or a flush."""
        held = getattr(_local, "held", None)
        if held is None:
            held = _local.held = {}
        pending = held.get(id(self), "") + text
        *lines, rest = pending.split("\n")
        if len(rest) > _LONGEST_REST:  # progress without newlines: growing it for ever would take quadratic time
            lines.append(rest)
            rest = ""
        held[id(self)] = rest
        if lines:
            mark = _mark()
            with self._lock:
                self._under.write("".join(f"{mark}{line}\n" for line in lines))
                self._under.flush()
        return len(text)

    def flush(self) -> None:
        """Write out this thread's unfinished line, if there is one."""
        held = getattr(_local, "held", {})
        rest = held.pop(id(self), "")
        if rest:
            with self._lock:
                self._under.write(f"{_mark()}{rest}\n")
        self._under.flush()


class _MarkedHandler(logging.Handler):
    """Sends log records as one marked line each, with their level."""

    def __init__(self, under: TextIO) -> None:
        super().__init__()
        self._under = under

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        text = self.format(record).replace("\n", "\n  ")
        mark = _mark(record.levelname)
        self._under.write("".join(f"{mark}{line}\n" for line in text.split("\n")))
        self._under.flush()


def install(log_level: str) -> None:
    """Mark what ``print`` and ``logging`` write in this process."""
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", write_through=True)
    sys.stdout, sys.stderr = MarkedStream(out), MarkedStream(err)
    handler = _MarkedHandler(err)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.root.addHandler(handler)
    logging.root.setLevel(log_level)
