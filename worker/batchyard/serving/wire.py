"""Protobuf's wire format around large tensors; apart because it is there for speed alone.

A protobuf runtime copies a tensor's bytes several times on the way out and twice on the way in. A PredictRequest and
a PredictResponse are a few framing bytes around them, so they are written here with one copy and read with none.
Everything small (shapes, model specs, lists of strings) stays with the generated classes.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

Buffer = bytes | memoryview
Parts = list[Buffer]
"""A serialized message in pieces, to be joined once."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_REQUEST_SPEC, _REQUEST_TENSORS, _REQUEST_FILTER = 1, 2, 3
_RESPONSE_TENSORS, _RESPONSE_SPEC = 1, 2
_KEY, _VALUE = 1, 2

_LARGE = 4 << 20
"""Bytes from which memory is asked for in large pages: NumPy's own limit for its arrays."""


def varint(number: int) -> bytes:
    """Return a non-negative integer in base 128, least significant group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def header(field: int, length: int) -> bytes:
    """Return what stands before ``length`` bytes of a bytes, string or message field."""
    return varint(field << 3 | _LENGTH) + varint(length)


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield each field's number and value without copying: int for varints, the raw bytes for the rest.

    Raises ValueError when ``message`` is cut short or is no protobuf message.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _LENGTH:
            size, at = _read_varint(message, at)
        elif kind == _FIXED32:
            size = 4
        elif kind == _FIXED64:
            size = 8
        else:
            raise ValueError(f"not a protobuf message: wire type {kind} at byte {at}")
        if at + size > end:
            raise ValueError(f"a protobuf message is cut short: {size} bytes expected at byte {at} of {end}")
        yield tag >> 3, message[at : at + size]
        at += size


def join(parts: Sequence[Buffer]) -> bytes:
    """Return the parts as one bytes object.

    A large one is laid in large pages where the system has them: touching 40 MB of new memory in pages of 4 KB costs
    several times the copy itself, and ``b"".join`` holds Python's lock meanwhile.
    """
    size = sum(len(part) for part in parts)
    if size < _LARGE or _madvise is None:
        return b"".join(parts)
    whole: bytes = _new_bytes(None, size)  # not filled yet, and nobody else's: the one time that bytes may be written
    at: int = _address(whole)
    in_page = at % mmap.PAGESIZE
    _madvise(at - in_page, size + in_page, mmap.MADV_HUGEPAGE)  # a wish: whether it is granted changes no result
    for part in parts:
        if len(part):
            ctypes.memmove(at, np.frombuffer(part, np.uint8).ctypes.data, len(part))
            at += len(part)
    return whole


def write_request(spec: bytes, tensors: Mapping[str, Parts], output_filter: Sequence[str] = ()) -> bytes:
    """Return a PredictRequest. ``spec``: a serialized ModelSpec; ``tensors``: serialized TensorProtos by name."""
    parts: Parts = [header(_REQUEST_SPEC, len(spec)), spec]
    _put_map(parts, _REQUEST_TENSORS, tensors)
    for name in output_filter:
        raw = name.encode()
        parts += [header(_REQUEST_FILTER, len(raw)), raw]
    return join(parts)


def write_response(tensors: Mapping[str, Parts], spec: bytes) -> bytes:
    """Return a PredictResponse; see ``write_request``."""
    parts: Parts = []
    _put_map(parts, _RESPONSE_TENSORS, tensors)
    parts += [header(_RESPONSE_SPEC, len(spec)), spec]
    return join(parts)


def read_request(data: Buffer) -> tuple[bytes, dict[str, memoryview], list[str]]:
    """Return a PredictRequest's serialized ModelSpec, its tensors as slices of ``data``, and its output filter.

    Raises ValueError when ``data`` is no such message.
    """
    spec, tensors, output_filter = b"", {}, []
    for number, value in fields(memoryview(data)):
        if number == _REQUEST_SPEC:
            spec += _raw(value)  # a repeated submessage merges, and merging is concatenation
        elif number == _REQUEST_TENSORS:
            key, tensor = _entry(_raw(value))
            tensors[key] = tensor
        elif number == _REQUEST_FILTER:
            output_filter.append(str(_raw(value), "utf-8"))
    return spec, tensors, output_filter


def read_response(data: Buffer) -> tuple[dict[str, memoryview], bytes]:
    """Return a PredictResponse's tensors as slices of ``data``, and its serialized ModelSpec.

    Raises ValueError when ``data`` is no such message.
    """
    tensors, spec = {}, b""
    for number, value in fields(memoryview(data)):
        if number == _RESPONSE_TENSORS:
            key, tensor = _entry(_raw(value))
            tensors[key] = tensor
        elif number == _RESPONSE_SPEC:
            spec += _raw(value)
    return tensors, spec


def _put_map(parts: Parts, field: int, tensors: Mapping[str, Parts]) -> None:
    for name, tensor in tensors.items():
        raw = name.encode()
        key = header(_KEY, len(raw)) + raw
        size = sum(len(part) for part in tensor)
        value = header(_VALUE, size)
        parts.append(header(field, len(key) + len(value) + size) + key + value)
        parts += tensor


def _entry(message: memoryview) -> tuple[str, memoryview]:
    key, value = "", memoryview(b"")
    for number, content in fields(message):
        if number == _KEY:
            key = str(_raw(content), "utf-8")
        elif number == _VALUE:
            value = _raw(content)
    return key, value


def _raw(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("not a predict message: a number where bytes are expected")  # noqa: TRY004 - the data is wrong, not a type
    return value


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a protobuf message is cut short in a number")
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("not a protobuf message: a number of more than ten bytes")


def _system_madvise() -> Callable[[int, int, int], int] | None:
    """Return the system's madvise where it knows large pages and Python is CPython, else None."""
    if sys.implementation.name != "cpython" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is not None:
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return madvise


_madvise = _system_madvise()
# CPython's documented way to make a bytes object and then fill it: PyBytes_FromStringAndSize(NULL, size)
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))
