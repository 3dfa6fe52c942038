"""CSV and TSV rows as items: one JSON object of strings a row, named by the file's header.

Quoted fields may hold newlines. Reading can go on behind any row, given the header. A malformed row costs the line
it begins on; reading goes on with the next line, so one stray quote does not swallow the rest of the file.
"""

import csv
from collections.abc import Iterator

import orjson

from batchyard.enqueue.lines import MAX_VALUE, Lines
from batchyard.enqueue.split import InputInvalid, Origin, Run, shortened


def read_header(lines: Lines, delimiter: str) -> list[str] | None:
    """Return the header's names; None for a file without one line of text.

    Raises InputInvalid for a malformed header, and for a name that stands twice.
    """
    for row in _rows(lines, delimiter):
        if row.problem is not None:
            raise InputInvalid(f"{lines.shown}:{row.line}: the header is malformed: {row.problem}")
        names = row.fields
        doubled = next((name for name in names if names.count(name) > 1), None)
        if doubled is not None:
            raise InputInvalid(
                f"{lines.shown}:{row.line}: found the column {doubled!r} twice, expected each name once."
            )
        return names
    return None


def read_rows(lines: Lines, header: list[str], delimiter: str, origin: Origin) -> Iterator[Run]:
    """Yield each row as a JSON object, and every malformed row as a Run with a problem."""
    dumps, width = orjson.dumps, len(header)
    for row in _rows(lines, delimiter):
        problem = row.problem
        if problem is None and len(row.fields) != width:
            problem = f"found {_fields(len(row.fields))}, expected {width} ({_listed(header)})."
        if problem is not None:
            yield Run([row.text], origin, row.line, lines.offset, lines.number, problem)
            continue
        raw = dumps(dict(zip(header, row.fields, strict=True)))
        yield Run([raw], origin, row.line, lines.offset, lines.number)


class _Row:
    """One record: its fields, or its problem and the text of the line it begins on."""

    __slots__ = ("fields", "line", "problem", "text")

    def __init__(self, fields: list[str], line: int, problem: str | None, text: bytes) -> None:
        self.fields = fields
        self.line = line
        self.problem = problem
        self.text = text


def _rows(lines: Lines, delimiter: str) -> Iterator[_Row]:
    """Yield every record that is not a blank line; after each, ``lines`` stands right behind it."""
    csv.field_size_limit(MAX_VALUE)
    taken: list[bytes] = []

    def feed() -> Iterator[str]:
        while (raw := lines.take()) is not None:
            taken.append(raw)
            # what is not UTF-8 becomes a lone surrogate, so that the record is still framed; refused below
            yield raw.decode("utf-8", "surrogateescape") + "\n"

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        number = lines.number
        taken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            first = taken[0]
            lines.give_back(taken[1:])
            yield _Row([], number, f"found {shortened(first)} ({error}), expected one row.", first)
            reader = csv.reader(feed(), delimiter=delimiter, strict=True)
            continue
        if not fields:
            continue
        problem = None
        if any(not name.isascii() and _has_surrogate(name) for name in fields):
            problem = f"found {shortened(taken[0])} (it is not UTF-8), expected one row in UTF-8."
        yield _Row(fields, number, problem, b"\n".join(taken))


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _listed(header: list[str]) -> str:
    return ", ".join(header) if len(header) <= 8 else ", ".join([*header[:7], "…", header[-1]])
