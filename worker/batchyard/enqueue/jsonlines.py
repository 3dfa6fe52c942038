"""JSON values in a stream of lines: one a line, several on a line, or one over many lines, told apart for each value.

The usual line holds one value: it is checked by orjson and passed on as the bytes it is. Only where that fails is the
text looked at closely, by Python's decoder, which also takes what Python writes (NaN, Infinity) and says where it
stopped: a value that stops at the end of its text goes on in the next line; one that stops before is malformed.

What is read from a place depends on nothing before it: reading can go on behind any value and finds the same ones.
A malformed value costs the line it begins on; reading goes on with the next line.
"""

import json
from collections import deque
from collections.abc import Iterator
from operator import length_hint
from typing import NamedTuple

import orjson

from batchyard.enqueue.lines import ARRAY_ADVICE, MAX_VALUE, Lines
from batchyard.enqueue.split import InputInvalid, Origin, Run, shortened

_DECODER = json.JSONDecoder()
_SPACE = b" \t\r\n"
_TOGETHER = 256  # lines that are checked in one go


class _Scan(NamedTuple):
    """The values of a text (as slices), and how it ends: ``open_at`` an unfinished value, or a ``problem``."""

    values: list[tuple[int, int]]
    open_at: int | None = None
    problem: str | None = None


def read_values(lines: Lines, origin: Origin) -> Iterator[Run]:
    """Yield every JSON value, and every malformed line as a Run with a problem.

    Raises InputInvalid for a line or value over MAX_VALUE bytes.
    """
    while taken := lines.take_many(_TOGETHER):
        number = lines.number - len(taken)
        left = iter(taken)
        try:
            deque(map(orjson.loads, left), maxlen=0)  # a loop in C; nothing is kept
        except ValueError:
            good = len(taken) - length_hint(left) - 1
            lines.give_back(taken[good:])
            if good:
                yield Run(taken[:good], origin, number, lines.offset, lines.number)
            yield from _read_closely(lines.take() or b"", lines, origin)
        else:
            yield Run(taken, origin, number, lines.offset, lines.number)


def _read_closely(raw: bytes, lines: Lines, origin: Origin) -> Iterator[Run]:
    """Yield what the line ``raw``, just taken, holds, taking more lines for a value that goes on."""
    while raw.strip(_SPACE):
        number, end = lines.number - 1, lines.offset
        scan = _scan(raw)
        if scan.problem is not None:
            yield Run([raw], origin, number, end, lines.number, _malformed(raw, scan.problem))
            return
        start = end - len(raw) - 1  # offset of raw
        # behind a value comes the next one of its line, without the space between, or the next line
        follows = [a for a, _ in scan.values[1:]] + ([] if scan.open_at is None else [scan.open_at])
        for i, (a, b) in enumerate(scan.values):
            if i < len(follows):
                yield Run([raw[a:b]], origin, number, start + follows[i], number)
            else:
                yield Run([raw[a:]], origin, number, end, number + 1)  # with its \r, as if read from here
        if scan.open_at is None:
            return
        opened = raw[scan.open_at :]
        value, rest = _finish(opened, lines)
        if value is None:
            yield Run([opened], origin, number, end, lines.number, _malformed(opened, rest.decode()))
            return
        rest = rest.lstrip(_SPACE)
        here = bool(rest)
        offset = lines.offset - len(rest) - 1 if here else lines.offset
        yield Run([value], origin, number, offset, lines.number - 1 if here else lines.number)
        raw = rest


def _finish(opened: bytes, lines: Lines) -> tuple[bytes | None, bytes]:
    """Return the value that begins with ``opened`` and the rest of its last line; or None and what is wrong.

    Tried once where the brackets seem to balance (those in strings mislead), and each time the text has doubled, so
    that the work stays linear. Lines taken beyond the value, or for a malformed one, are given back.
    """
    taken: list[bytes] = []
    size = tried = len(opened)
    depth: int | None = _depth(opened)
    while True:
        line = lines.take()
        if line is not None:
            taken.append(line)
            size += len(line) + 1
            if size > MAX_VALUE:
                raise InputInvalid(
                    f"{lines.shown}:{lines.number - len(taken) - 1}: found a JSON value of more than "
                    f"{MAX_VALUE >> 20} MiB, expected one item a line; {ARRAY_ADVICE}"
                )
            if depth is not None:
                depth += _depth(line)
            if depth != 0 and size < 2 * tried:
                continue
        tried = size
        depth = None if depth == 0 else depth
        text = b"\n".join([opened, *taken])
        scan = _scan(text, most=1)
        if scan.values:
            return _give_back(text, scan.values[0], opened, taken, lines)
        if scan.problem is not None or line is None:
            lines.give_back(taken)
            return None, (scan.problem or "the value has no end").encode()


def _depth(line: bytes) -> int:
    return line.count(b"{") + line.count(b"[") - line.count(b"}") - line.count(b"]")


def _give_back(
    text: bytes, found: tuple[int, int], opened: bytes, taken: list[bytes], lines: Lines
) -> tuple[bytes, bytes]:
    """Return the value and the rest of its last line, giving back the lines behind that one."""
    a, b = found
    end, used = len(opened), 0
    while end < b:
        end += 1 + len(taken[used])
        used += 1
    lines.give_back(taken[used:])
    return text[a:b], text[b:end]


def _scan(raw: bytes, most: int | None = None) -> _Scan:
    """Find the values of a text that begins where a value may begin; at most ``most`` of them.

    Decoded as latin-1, so that positions are byte offsets: JSON's own characters are ASCII, and whether the rest is
    UTF-8 is checked for each value. Two values need whitespace between them unless one ends and the other begins
    with a bracket: otherwise ``2024-01-01`` would read as three numbers.
    """
    text = raw.decode("latin-1")
    stop = len(raw.rstrip(_SPACE))
    values: list[tuple[int, int]] = []
    at = _skip(raw, 0, stop)
    while at < stop and (most is None or len(values) < most):
        if values and at == values[-1][1] and not (raw[at - 1] in b"}]" and raw[at] in b"{["):
            return _Scan([], problem=f"something follows the value at column {at + 1}")
        try:
            end = _DECODER.raw_decode(text, at)[1]
        except json.JSONDecodeError as error:
            if error.pos >= stop:
                return _Scan(values, open_at=at)
            line_start = raw.rfind(b"\n", 0, error.pos) + 1
            where = f"line {error.lineno}, column" if line_start else "column"
            return _Scan([], problem=f"{error.msg} at {where} {error.pos - line_start + 1}")
        except RecursionError:
            return _Scan([], problem="it is nested too deeply")
        except ValueError as error:  # an integer of more than 4,300 digits
            return _Scan([], problem=str(error).partition(";")[0])
        if problem := _not_utf8(raw, at, end):
            return _Scan([], problem=problem)
        values.append((at, end))
        at = _skip(raw, end, stop)
    return _Scan(values)


def _skip(raw: bytes, at: int, stop: int) -> int:
    while at < stop and raw[at] in _SPACE:
        at += 1
    return at


def _not_utf8(raw: bytes, a: int, b: int) -> str | None:
    try:
        raw[a:b].decode()
    except UnicodeDecodeError as error:
        return f"byte 0x{raw[a + error.start]:02x} at column {a + error.start + 1} is not UTF-8"
    return None


def _malformed(raw: bytes, problem: str) -> str:
    return f"found {shortened(raw.strip(_SPACE))} ({problem}), expected one JSON value."
