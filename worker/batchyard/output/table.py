"""Results as CSV: which columns there are, and a result line as a row of them. Pure."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

_OURS = ("position", "key", "batch", "positions")
RESULT = "result"


def row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result line's record as a flat row.

    The fields of a result that is an object become columns of their own, ``result.NAME`` where the name is one of the
    line's own fields; any other result is the column ``result``.
    """
    flat = {name: record[name] for name in _OURS if name in record}
    result = record.get(RESULT)
    if not isinstance(result, dict):
        return {**flat, RESULT: result}
    for name, value in result.items():
        flat[f"{RESULT}.{name}" if name in (*_OURS, RESULT) else name] = value
    return flat


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every column of the rows, in the order in which they are met."""
    met: dict[str, None] = {}
    for found in rows:
        met.update(dict.fromkeys(found))
    return list(met)


def lines(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Iterator[bytes]:
    """Yield the header and then each row as a line of CSV (RFC 4180, lines end with a line feed), in UTF-8."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for found in rows:
        yield _taken(text)
        writer.writerow([_cell(found.get(name)) for name in names])
    yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
    line = text.getvalue()
    text.seek(0)
    text.truncate()
    return line.encode("utf-8", "replace")  # half a surrogate pair has no bytes


def _cell(value: Any) -> str:
    """Return a value as a cell: text as it is, nothing for null, everything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # an integer over 64 bits, half a surrogate pair
        return json.dumps(value)
