"""What a handler returned, as JSON lines; runs in the handler process, where the arrays are.

The lines are strict JSON, so that every tool reads them: NaN and the infinities, which JSON does not have, become
null, as pandas and JavaScript write them. orjson does the work; what it does not know is turned into something it
does; what only Python's writer can hold (integers over 64 bits, half a surrogate pair) goes that way.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np
import orjson

from batchyard.api.errors import InvalidError

# not OPT_SERIALIZE_NUMPY: it writes a date that is missing (NaT) as one in 1677; _known_array hands numbers to it
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
_NUMBERS = "?bBhHiIlLqQefd"  # dtype characters of the scalars that orjson writes itself
_ADVICE = "return numbers, strings, lists, dicts or NumPy arrays"


class OutputEncodingError(InvalidError):
    """What the handler returned cannot be written; the attempt failed."""

    reason = "OutputInvalid"


def encode_result(result: object, items: Sequence[Any], first: int, batch: int, key: str | None = None) -> bytes:
    """Return the JSON lines of a batch's part.

    A list, tuple or array as long as ``items`` gives one line an item: ``{"position", "key", "result"}``; ``key`` (a
    field of the item, ``a.b`` for one inside another; null where it is missing) only when one is asked for. None
    gives no line. Anything else gives one line for the batch: ``{"batch", "positions", "result"}``. ``first``: the
    position of the first item in the input; ``batch``: the batch's index. Raises OutputEncodingError for a sequence
    of another length, and for a value that JSON cannot hold.
    """
    if result is None:
        return b""
    try:
        return _encoded(result, items, first, batch, key)
    except OutputEncodingError:
        raise
    except Exception as error:
        raise OutputEncodingError(
            f"handle_batch returned {type(result).__qualname__!r}, and writing it failed: "
            f"{type(error).__name__}: {error}; {_ADVICE}."
        ) from error


def _encoded(result: object, items: Sequence[Any], first: int, batch: int, key: str | None) -> bytes:
    rows = _rows(result)
    if rows is None:
        record = {"batch": batch, "positions": [first, first + len(items) - 1], "result": result}
        return _encode(record, f"for batch {batch}")
    if len(rows) != len(items):
        raise OutputEncodingError(
            f"handle_batch returned {len(rows)} result{'s' * (len(rows) != 1)} for {len(items)} "
            f"item{'s' * (len(items) != 1)}, expected one for each item (or a dict for the whole batch)."
        )
    return b"".join(_lines(rows, items, first, key))


def _lines(
    rows: Sequence[Any] | np.ndarray[Any, Any], items: Sequence[Any], first: int, key: str | None
) -> Iterator[bytes]:
    for i, row in enumerate(rows):
        record: dict[str, Any] = {"position": first + i}
        if key is not None:
            record["key"] = _field(items[i], key)
        record["result"] = row
        yield _encode(record, f"for item {i} of the batch (position {first + i})")


def _rows(result: object) -> "Sequence[Any] | np.ndarray[Any, Any] | None":
    """Return what holds one result an item, None for a result of the whole batch."""
    if isinstance(result, list) or (isinstance(result, tuple) and not hasattr(result, "_fields")):
        return result
    if isinstance(result, np.generic):
        return None
    array = result if isinstance(result, np.ndarray) else _array(result)
    return array if array is not None and array.ndim > 0 else None


def _array(value: object) -> "np.ndarray[Any, Any] | None":
    """Return a tensor of another library as an array, None for what is no array."""
    if isinstance(value, type) or not hasattr(value, "__array__"):
        return None
    return np.asarray(value)


def _field(item: object, key: str) -> object:
    """Return the item's field ``key``, or the one that ``a.b`` leads to; None where there is none."""
    if isinstance(item, dict) and key in item:
        return item[key]
    for name in key.split("."):
        if not isinstance(item, dict):
            return None
        item = item.get(name)
    return item


def _encode(record: dict[str, Any], where: str) -> bytes:
    try:
        return orjson.dumps(record, _known, _OPTIONS)
    except orjson.JSONEncodeError:
        pass  # what orjson refuses, Python's writer may hold; and it tells the type of what nothing can
    try:
        return json.dumps(_plain(record), separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except _Unknown as error:
        raise OutputEncodingError(f"handle_batch returned, {where}, {error}; {_ADVICE}.") from error
    except RecursionError as error:
        raise OutputEncodingError(
            f"handle_batch returned, {where}, a value that holds itself or is nested too deeply; {_ADVICE}."
        ) from error


class _Unknown(TypeError):
    """A value that has no JSON form."""


def _known(value: Any) -> Any:
    """Return a value that orjson does not know as one that it does. Raises _Unknown."""
    if isinstance(value, np.ndarray):
        return _known_array(value)
    if isinstance(value, np.generic):
        return _finished(value) if value.dtype.char in _NUMBERS else _known_array(np.asarray(value))
    if isinstance(value, tuple):  # a named tuple: its fields are its meaning
        return value._asdict() if hasattr(value, "_asdict") else list(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value))
    if isinstance(value, Set):
        return _in_order(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):  # a deque, a range
        return list(value)
    if isinstance(value, float):  # a subclass
        return float(value)
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, Decimal | PurePath):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):  # a pydantic model
        return dump()
    array = _array(value)
    if array is not None:
        return _known_array(array)
    raise _Unknown(f"a value of type {type(value).__qualname__!r}")


def _known_array(array: "np.ndarray[Any, Any]") -> Any:
    """Return an array as finished JSON, or as lists and dicts of what is known. Raises _Unknown."""
    kind, name = array.dtype.kind, array.dtype.name
    if kind == "c":
        array = np.stack([array.real, array.imag], axis=-1)
    elif kind == "m":
        array = array / np.timedelta64(1, "s")
    elif kind == "M":  # microseconds are the finest that Python's datetime has
        return array.astype("datetime64[us]").astype(object).tolist()
    elif array.dtype.names is not None:  # records: a dict each
        rows = array.reshape(-1)
        dicts = [{field: row[field] for field in array.dtype.names} for row in rows]
        return dicts if array.ndim else dicts[0]
    elif kind in "SUOT":
        return array.tolist()
    elif name.startswith(("bfloat", "float8", "float6", "float4")):  # ml_dtypes
        array = array.astype(np.float32)
    elif name in ("int4", "uint4", "int2", "uint2"):
        array = array.astype(np.int8)
    elif name.startswith(("longdouble", "float128", "float96")):
        array = array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise _Unknown(f"an array of dtype {name}")
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
    return _finished(array) if array.ndim else array.item()


def _finished(numbers: "np.ndarray[Any, Any] | np.generic") -> orjson.Fragment:
    """Return numbers as the JSON they will be: the shortest digits for their own precision."""
    return orjson.Fragment(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY))


def _plain(value: Any) -> Any:
    """Return a value as Python's JSON writer takes it; the long way, for what orjson refused. Raises _Unknown."""
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_name(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    known = _known(value)
    return orjson.loads(orjson.dumps(known)) if isinstance(known, orjson.Fragment) else _plain(known)


def _name(key: object) -> str:
    """Return a dict's key as JSON's string."""
    if isinstance(key, str):
        return str(key)
    plain = _plain(key)
    if isinstance(plain, list | dict):
        raise _Unknown(f"a dict with a key of type {type(key).__qualname__!r}")
    return plain if isinstance(plain, str) else json.dumps(plain)


def _text(value: bytes) -> str:
    """Return bytes as the text they are, or as base64 where they are none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _in_order(values: Set[Any]) -> list[Any]:
    """Return a set as a list that is the same on every attempt."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)
