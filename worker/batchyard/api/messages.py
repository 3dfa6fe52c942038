"""The body of a queue message: what the enqueuer writes, every engine carries, and a handler process reads.

A body is one JSON header line, then the batch's items as one JSON array. The header tells a worker what it must
know without decoding the items; the items pass from the enqueuer to the user's handler as bytes, untouched. Items
that are too large for a queue lie in the job's work prefix; the body then is a reference, a header without items.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import orjson

_SHAPES = bytes(0x30 if chr(byte).isdecimal() else byte if byte in b"-." else 0x20 for byte in range(256))
_LONG = b" " + b"0" * 20
_LONG_NEGATIVE = b"-" + b"0" * 19


@dataclass(frozen=True, slots=True)
class Header:
    """What a worker knows of a batch without decoding it.

    ``first``: position (from 0) of the batch's first item in the job's input. ``count``: number of items.
    ``invalid``: why this batch cannot run (a malformed input line, with file and line number); such a batch is
    buried without running, so that it counts as a failed batch. Its items are the raw text that was found.
    ``source``: where the items came from (a file's path), for messages; empty for inline items. ``stored``: bytes of
    the items where they lie in the job's work prefix, because the queue takes no message so large; 0 where they are
    in the body.
    """

    first: int
    count: int
    invalid: str | None = None
    source: str = ""
    stored: int = 0


def encode(header: Header, items: bytes) -> bytes:
    """Return the message body for ``items``, a JSON array as bytes (NaN and Infinity as Python writes them)."""
    fields: dict[str, Any] = {"first": header.first, "count": header.count}
    if header.invalid is not None:
        fields["invalid"] = header.invalid
    if header.source:
        fields["source"] = header.source
    if header.stored:
        fields["stored"] = header.stored
    return orjson.dumps(fields) + b"\n" + items


def decode_header(body: bytes | memoryview) -> Header:
    """Return the header of a body. Raises ValueError when the body is not a message of ours."""
    raw = bytes(body[:65536]).partition(b"\n")
    try:
        fields = orjson.loads(raw[0])
        return Header(
            first=int(fields["first"]),
            count=int(fields["count"]),
            invalid=fields.get("invalid"),
            source=str(fields.get("source", "")),
            stored=int(fields.get("stored", 0)),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a batch message: {raw[0][:80]!r}") from error


def reference(header: Header, size: int) -> bytes:
    """Return the body of a batch whose items, ``size`` bytes, lie in the job's work prefix."""
    return encode(replace(header, stored=size), b"null")


def _holds_big_integer(text: bytes) -> bool:
    """Return whether an integer may be beyond 64 bits; a long number in a string counts too, which is harmless."""
    shapes = text.translate(_SHAPES)  # digits become 0, all but - and . a space: far faster than a pattern
    return _LONG in shapes or _LONG_NEGATIVE in shapes


def decode_items(body: bytes) -> list[Any]:
    """Return the items of a body. Raises ValueError when they are not a JSON array.

    orjson first, for speed; Python's json where orjson refuses what Python wrote (NaN, Infinity) or would make a
    float of it (integers beyond 64 bits).
    """
    text = body[body.index(b"\n") + 1 :]
    try:
        items = json.loads(text) if _holds_big_integer(text) else orjson.loads(text)
    except orjson.JSONDecodeError:
        items = json.loads(text)
    if not isinstance(items, list):
        raise ValueError(f"the items of a batch are a JSON array, found {type(items).__name__}")  # noqa: TRY004 - one error for a bad body
    return items
