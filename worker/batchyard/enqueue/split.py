"""Cuts a stream of values into batches: pure, so that a restarted enqueuer provably cuts the same ones.

Nothing here knows files, queues or clocks. The same values and the same size always give the same batches, from
whichever batch boundary the cutting starts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from batchyard.api.errors import InvalidError
from batchyard.api.messages import Header, encode

MAX_RAW = 1 << 16
"""Characters of a malformed line that are kept as its batch's item."""


class InputInvalid(InvalidError):
    """The job's input is wrong: said once, with its place; the job fails."""

    reason = "InputInvalid"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where values come from: one file, or the inline items (``path`` empty).

    ``shown`` is the path as the user would write it, for messages. ``root`` is the index of the given path that led
    to the file, ``below`` the path relative to it. ``size`` (bytes), ``mtime_ns`` and, in a bucket, ``etag`` tell
    whether the file changed.
    """

    shown: str = ""
    path: str = ""
    root: int = 0
    below: str = ""
    size: int = 0
    mtime_ns: int = 0
    etag: str = ""


class Mark(NamedTuple):
    """A place in the input, right behind an item.

    ``line`` is the one that the item begins on, from 1; 0 where there are no lines. ``offset`` and ``next_line``:
    where reading goes on.
    """

    origin: Origin
    line: int
    offset: int
    next_line: int

    def place(self) -> str:
        """Return ``file:line`` for messages; empty for inline items."""
        return f"{self.origin.shown}:{self.line}" if self.line else self.origin.shown


class Run(NamedTuple):
    """Items as JSON text, found one behind the other; or one malformed line as it stands.

    ``line`` is the one that the first begins on. ``offset`` and ``next_line``: where reading goes on behind the
    last. When there are several, each stands on a line of its own and the lines follow each other. ``problem``: None,
    or what is wrong with the only one (a sentence without its place).
    """

    raws: list[bytes]
    origin: Origin
    line: int
    offset: int
    next_line: int
    problem: str | None = None

    def mark(self, count: int) -> Mark:
        """Return the place behind the first ``count`` items."""
        behind = self.raws[count:]
        offset = self.offset - sum(map(len, behind)) - len(behind)
        return Mark(self.origin, self.line and self.line + count - 1, offset, self.next_line - len(behind))


class Batch(NamedTuple):
    """One batch: its queue message, the message's header, and the place behind its last item."""

    header: Header
    body: bytes
    mark: Mark

    @property
    def end(self) -> int:
        """Items of the input up to and with this batch."""
        return self.header.first + self.header.count


def split(
    runs: Iterable[Run], size: int, first: int = 0, limit: int | None = None, index: int = 0, advice: str = ""
) -> Iterator[Batch]:
    """Yield the batches of the items in ``runs``: ``size`` items each, the last one what is left.

    Batches go on across files. A malformed line is a batch of its own, so that it counts as one failed batch; the
    batch before it ends there, because the positions of a batch's items have no gap. ``first`` is the position of
    the first item, ``index`` the number of the first batch. Raises InputInvalid for a batch of more than ``limit``
    bytes, naming the item that is too much; ``advice``: what a person can do besides a lower batchSize.
    """
    parts: list[bytes] = []
    held = 0
    source, mark = "", None
    for run in runs:
        if run.problem is not None:
            if parts and mark:
                yield _batch(parts, first, source, mark)
                first += len(parts)
                index += 1
                parts, held = [], 0
            yield _malformed(run, first)
            first += 1
            index += 1
            continue
        at, count = 0, len(run.raws)
        while at < count:
            source = source if parts else run.origin.shown
            piece = run.raws[at : at + size - len(parts)]
            parts += piece
            at += len(piece)
            held += sum(map(len, piece)) + len(piece)
            if limit is not None and held > limit:
                place, position = run.mark(at).place(), first + len(parts) - 1
                where = f"{place} (batch {index}, item {position})" if place else f"batch {index}, item {position}"
                raise InputInvalid(f"{where}: {_too_large(len(parts), held, limit, advice)}")
            if len(parts) == size:
                yield _batch(parts, first, source, run.mark(at))
                first += size
                index += 1
                parts, held = [], 0
        mark = run.mark(count) if parts else None
    if parts and mark:
        yield _batch(parts, first, source, mark)


def _batch(parts: list[bytes], first: int, source: str, mark: Mark) -> Batch:
    header = Header(first, len(parts), source=source)
    parts[0] = encode(header, b"[" + parts[0])  # so that joining is the only time the items are copied
    parts[-1] += b"]"
    return Batch(header, b",".join(parts), mark)


def _malformed(run: Run, first: int) -> Batch:
    mark = run.mark(1)
    text = run.raws[0][: MAX_RAW * 4].decode(errors="replace")[:MAX_RAW]
    header = Header(first, 1, invalid=f"{mark.place()}: {run.problem}", source=run.origin.shown)
    return Batch(header, encode(header, orjson.dumps([text])), mark)


def _too_large(count: int, held: int, limit: int, advice: str) -> str:
    found = f"an item of {held:,} bytes" if count == 1 else f"{held:,} bytes in {count} items"
    advices = [*(["lower input.batchSize"] if count > 1 else []), *([advice] if advice else [])]
    ways = f"; {', or '.join(advices)}" if advices else ""
    return f"found {found}, expected at most {limit:,} bytes in one batch{ways}."


def shortened(raw: bytes, most: int = 60) -> str:
    """Return text that was found, quoted and short enough for a sentence."""
    text = raw[: most * 4].decode(errors="replace")
    cut: Any = text if len(text) <= most and len(raw) <= most * 4 else text[:most] + "…"
    return repr(cut)
