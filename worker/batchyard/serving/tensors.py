"""NumPy arrays to TensorProtos and back, without TensorFlow; apart because it is a codec and knows no model.

Arrays are sent as ``tensor_content``. Answers are read in every form that servers send: ``tensor_content``, and the
``*_val`` lists (the only form of TF Serving before 2.19), packed or not, short ones repeating their last value.
"""

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from batchyard.serving.protos import tensor_pb2 as pb
from batchyard.serving.wire import Buffer, Parts, fields, header

Array = NDArray[Any]

_DTYPES: dict[int, np.dtype[Any]] = {
    pb.DT_FLOAT: np.dtype("<f4"),
    pb.DT_DOUBLE: np.dtype("<f8"),
    pb.DT_HALF: np.dtype("<f2"),
    pb.DT_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    pb.DT_INT8: np.dtype("i1"),
    pb.DT_INT16: np.dtype("<i2"),
    pb.DT_INT32: np.dtype("<i4"),
    pb.DT_INT64: np.dtype("<i8"),
    pb.DT_UINT8: np.dtype("u1"),
    pb.DT_UINT16: np.dtype("<u2"),
    pb.DT_UINT32: np.dtype("<u4"),
    pb.DT_UINT64: np.dtype("<u8"),
    pb.DT_BOOL: np.dtype("?"),
    pb.DT_COMPLEX64: np.dtype("<c8"),
    pb.DT_COMPLEX128: np.dtype("<c16"),
    pb.DT_STRING: np.dtype(object),
}
_BY_DTYPE = {dtype: number for number, dtype in _DTYPES.items()}

_LISTS = {
    pb.DT_FLOAT: "float_val",
    pb.DT_DOUBLE: "double_val",
    pb.DT_COMPLEX64: "scomplex_val",
    pb.DT_COMPLEX128: "dcomplex_val",
    pb.DT_HALF: "half_val",
    pb.DT_BFLOAT16: "half_val",
    pb.DT_INT64: "int64_val",
    pb.DT_UINT32: "uint32_val",
    pb.DT_UINT64: "uint64_val",
    pb.DT_BOOL: "bool_val",
}
"""The list that carries a dtype; ``int_val`` for the small integers, which are not here."""

# Packed lists of fixed-width values: one run of bytes that NumPy reads as it stands. Reading such a list value by
# value costs 20 ms/MB with protobuf 4 to 6.
_FIXED_WIDTH = {5: pb.DT_FLOAT, 6: pb.DT_DOUBLE, 9: pb.DT_COMPLEX64, 12: pb.DT_COMPLEX128}

_DTYPE, _SHAPE, _VERSION, _CONTENT = 1, 2, 3, 4


def numpy_dtype(dtype: int) -> np.dtype[Any]:
    """Return the NumPy dtype of a DataType: little-endian; object for DT_STRING. Raises ValueError for others."""
    try:
        return _DTYPES[dtype]
    except KeyError:
        raise ValueError(f"tensors of type {dtype_name(dtype)} can't be sent or read") from None


def dtype_name(dtype: int) -> str:
    """Return a DataType as a user writes it: ``float32``, ``string``; ``DT_RESOURCE`` where NumPy has no word."""
    if dtype == pb.DT_STRING:
        return "string"
    if dtype in _DTYPES:
        return _DTYPES[dtype].name
    return pb.DataType.Name(dtype) if dtype in pb.DataType.values() else f"number {dtype}"


def data_type(array: Array) -> int:
    """Return the DataType that carries an array's dtype. Raises ValueError when none does."""
    if array.dtype.kind in "OSU":
        return pb.DT_STRING
    try:
        return _BY_DTYPE[array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype]
    except KeyError:
        raise ValueError(f"arrays of dtype {array.dtype} can't be sent") from None


def encode(array: Array, dtype: int | None = None) -> Parts:
    """Return a serialized TensorProto in pieces; the last one is the array's own memory, not a copy of it.

    ``dtype``: a DataType; None takes the array's own. An array of another dtype is cast as ``astype`` does, so check
    it before. Strings: an object, ``U`` or ``S`` array of str and bytes, each str as UTF-8. Raises ValueError when
    the dtype can't be carried or an element of a string tensor is neither str nor bytes.
    """
    dtype = data_type(array) if dtype is None else dtype
    shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in array.shape])
    if dtype == pb.DT_STRING:
        strings = [_utf8(element) for element in array.reshape(-1).tolist()]
        return [pb.TensorProto(dtype=pb.DT_STRING, tensor_shape=shape, string_val=strings).SerializeToString()]
    head = pb.TensorProto(dtype=dtype, tensor_shape=shape).SerializeToString()  # type: ignore[arg-type]  # the stub's int subclass
    flat = np.ascontiguousarray(array, dtype=numpy_dtype(dtype)).reshape(-1)
    if flat.size == 0:
        return [head]
    return [head + header(_CONTENT, flat.nbytes), flat.view(np.uint8).data]


def decode(data: Buffer, *, text: bool = True) -> Array:
    """Return a serialized TensorProto as an array of its dtype and shape, writable and with its own memory.

    DT_STRING gives an object array: str where an element is valid UTF-8, else bytes; bytes only with ``text=False``.
    A list without values stands for zeros (empty strings), as in TensorFlow. Raises ValueError when ``data`` is no
    TensorProto, has no known shape, or holds another number of values than its shape.
    """
    dtype, shape, content, chunks = 0, b"", None, []
    for number, value in fields(memoryview(data)):
        if number == _DTYPE and isinstance(value, int):
            dtype = value
        elif number == _SHAPE and not isinstance(value, int):
            shape += value
        elif number == _CONTENT and not isinstance(value, int):
            content = value
        elif (
            _FIXED_WIDTH.get(number) == dtype
            and not isinstance(value, int)
            and len(value) % _DTYPES[dtype].itemsize == 0
        ):
            chunks.append(value)
        elif number != _VERSION:
            return decode_message(_parse(data), text=text)
    size = _dims(_parse_shape(shape))
    if content and dtype == pb.DT_STRING:
        return _strings(_split_strings(content, math.prod(size)), size, text=text)
    if dtype == pb.DT_STRING:
        return _strings([], size, text=text)
    wanted = numpy_dtype(dtype)
    if content:
        return _reshaped(np.frombuffer(content, wanted).copy(), size)
    return _filled(np.frombuffer(chunks[0] if len(chunks) == 1 else b"".join(chunks), wanted), size)


def decode_message(tensor: pb.TensorProto, *, text: bool = True) -> Array:
    """Return a parsed TensorProto as an array; see ``decode``, which is faster."""
    shape = _dims(tensor.tensor_shape)
    if tensor.dtype == pb.DT_STRING:
        content = memoryview(tensor.tensor_content)
        values = _split_strings(content, math.prod(shape)) if content else tensor.string_val
        return _strings(values, shape, text=text)
    wanted = numpy_dtype(tensor.dtype)
    if tensor.tensor_content:
        return _reshaped(np.frombuffer(tensor.tensor_content, wanted).copy(), shape)
    found = getattr(tensor, _LISTS.get(tensor.dtype, "int_val"))
    if tensor.dtype in (pb.DT_HALF, pb.DT_BFLOAT16):
        return _filled(np.array(found, np.int32).astype(np.uint16).view(wanted), shape)
    if tensor.dtype in (pb.DT_COMPLEX64, pb.DT_COMPLEX128):
        return _filled(np.array(found, np.dtype(f"<f{wanted.itemsize // 2}")).view(wanted), shape)
    if tensor.dtype in _LISTS:
        return _filled(np.array(found, wanted), shape)
    return _filled(np.array(found, np.int32).astype(wanted), shape)


def _parse(data: Buffer) -> pb.TensorProto:
    try:
        return pb.TensorProto.FromString(bytes(data))
    except DecodeError as error:
        raise ValueError(f"not a TensorProto: {error}") from error


def _parse_shape(data: bytes) -> pb.TensorShapeProto:
    try:
        return pb.TensorShapeProto.FromString(data)
    except DecodeError as error:
        raise ValueError(f"not a TensorShapeProto: {error}") from error


def _dims(shape: pb.TensorShapeProto) -> tuple[int, ...]:
    dims = tuple(dim.size for dim in shape.dim)
    if shape.unknown_rank or any(size < 0 for size in dims):
        raise ValueError(f"a tensor has a known shape, found {'unknown rank' if shape.unknown_rank else list(dims)}")
    return dims


def _reshaped(values: Array, shape: tuple[int, ...]) -> Array:
    if values.size != math.prod(shape):
        raise ValueError(f"a tensor of shape {list(shape)} holds {math.prod(shape)} values, found {values.size}")
    return values.reshape(shape)


def _filled(values: Array, shape: tuple[int, ...]) -> Array:
    """Return ``values`` in ``shape``, the last one repeated where there are fewer: TensorFlow's rule for lists."""
    count = math.prod(shape)
    if values.size >= count:
        return _reshaped(values, shape).copy()
    out = np.full(count, values[-1] if values.size else 0, values.dtype)
    out[: values.size] = values
    return out.reshape(shape)


def _strings(values: Sequence[bytes], shape: tuple[int, ...], *, text: bool) -> Array:
    count = math.prod(shape)
    if len(values) > count:
        raise ValueError(f"a tensor of shape {list(shape)} holds {count} strings, found {len(values)}")
    found: list[Any] = [_text(value) for value in values] if text else list(values)
    if len(found) < count:
        found += [found[-1] if found else "" if text else b""] * (count - len(found))
    out = np.empty(count, object)
    out[:] = found
    return out.reshape(shape)


def _split_strings(content: memoryview, count: int) -> list[bytes]:
    """Return strings as TensorFlow packs them in ``tensor_content``: every length as a varint, then every string."""
    lengths, at = [], 0
    for _ in range(count):
        number = shift = 0
        while True:
            if at >= len(content):
                raise ValueError("a string tensor's content is cut short")
            byte = content[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(number)
    if at + sum(lengths) != len(content):
        raise ValueError(
            f"a string tensor's content has {len(content) - at} bytes for {sum(lengths)} bytes of strings"
        )
    out = []
    for length in lengths:
        out.append(bytes(content[at : at + length]))
        at += length
    return out


def _utf8(element: Any) -> bytes:
    if isinstance(element, bytes):
        return bytes(element)
    if isinstance(element, str):
        return element.encode()
    raise ValueError(f"a string tensor holds str or bytes, found {type(element).__name__}")


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
