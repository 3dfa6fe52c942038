"""Arrays travel as TensorFlow's own functions send and read them, for every dtype and in every form."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from batchyard.serving import tensors
from batchyard.serving.protos import tensor_pb2 as pb

pytestmark = pytest.mark.tensorflow
pytest.importorskip("tensorflow", reason="needs TensorFlow: make setup")

TINY = np.finfo(np.float32).smallest_subnormal
VALUES: dict[int, Any] = {
    pb.DT_FLOAT: np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, TINY]], np.float32),
    pb.DT_DOUBLE: np.array([[1e308, -1e-308, np.nan], [np.inf, -np.inf, 0.1]], np.float64),
    pb.DT_HALF: np.array([[1.5, -2.0, np.nan], [np.inf, 65504, 6e-8]], np.float16),
    pb.DT_BFLOAT16: np.array([[1.5, -2.0, np.nan], [np.inf, 3e38, 1e-38]], ml_dtypes.bfloat16),
    pb.DT_INT8: np.array([[-128, 127, 0], [1, -1, 5]], np.int8),
    pb.DT_INT16: np.array([[-32768, 32767, 0], [1, -1, 5]], np.int16),
    pb.DT_INT32: np.array([[-(2**31), 2**31 - 1, 0], [1, -1, 5]], np.int32),
    pb.DT_INT64: np.array([[-(2**63), 2**63 - 1, 0], [1, -1, 5]], np.int64),
    pb.DT_UINT8: np.array([[255, 0, 1], [128, 127, 5]], np.uint8),
    pb.DT_UINT16: np.array([[65535, 0, 1], [128, 127, 5]], np.uint16),
    pb.DT_UINT32: np.array([[2**32 - 1, 0, 1], [128, 127, 5]], np.uint32),
    pb.DT_UINT64: np.array([[2**64 - 1, 0, 1], [128, 127, 5]], np.uint64),
    pb.DT_BOOL: np.array([[True, False, True], [False, False, True]]),
    pb.DT_COMPLEX64: np.array([[1 + 2j, np.nan, 0], [-1j, np.inf, 3]], np.complex64),
    pb.DT_COMPLEX128: np.array([[1 + 2j, np.nan, 0], [-1j, np.inf, 3]], np.complex128),
    pb.DT_STRING: np.array([["a", "", "日本"], ["naïve", "🙂", "x" * 300]], object),
}
NUMBERS = {dtype: array for dtype, array in VALUES.items() if dtype != pb.DT_STRING}


def by_dtype(cases: dict[int, Any]) -> Any:
    return pytest.mark.parametrize(
        ("dtype", "array"),
        [pytest.param(dtype, array, id=tensors.dtype_name(dtype)) for dtype, array in cases.items()],
    )


def sent(array: Any, dtype: int | None = None) -> bytes:
    return b"".join(tensors.encode(array, dtype))


def official(data: bytes = b"") -> Any:
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(data)


def assert_same(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
    else:  # bytes: NaN is equal to itself, and 0.0 is not -0.0
        assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()


# --- what we send ---


@by_dtype(VALUES)
def test_an_array_is_sent_byte_for_byte_as_tensorflow_sends_it(dtype: int, array: Any) -> None:
    import tensorflow as tf

    theirs = tf.io.serialize_tensor(tf.constant(array, tf.dtypes.as_dtype(dtype))).numpy()
    assert sent(array) == sent(array, dtype) == theirs


@by_dtype(VALUES)
@pytest.mark.parametrize("cut", ["scalar", "one value", "no rows", "no columns"])
def test_scalars_and_empty_arrays_read_the_same_in_tensorflow(dtype: int, array: Any, cut: str) -> None:
    import tensorflow as tf

    part = {
        "scalar": np.array(array[0, 0]),
        "one value": array[:1, :1],
        "no rows": array[:0],
        "no columns": array[:, :0],
    }[cut]
    data = sent(part.astype(array.dtype))
    assert official(data).SerializeToString(deterministic=True) == data
    read = tf.make_ndarray(official(data))
    assert read.shape == part.shape
    assert_same(tensors.decode(data), part.astype(array.dtype))
    if dtype != pb.DT_STRING:
        assert_same(read, part.astype(array.dtype))


@by_dtype(NUMBERS)
def test_layout_and_byte_order_do_not_matter(dtype: int, array: Any) -> None:
    expected = sent(np.ascontiguousarray(array.T))
    assert sent(array.T) == sent(np.asfortranarray(array.T)) == expected
    assert sent(np.repeat(array.T, 2, axis=1)[:, ::2]) == expected
    if dtype != pb.DT_BFLOAT16:  # has no other byte order in NumPy
        assert sent(array.T.astype(array.dtype.newbyteorder(">"))) == expected


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.array(["a", "日本", ""]), id="numpy str"),
        pytest.param(np.array([b"a", "日本".encode(), b""]), id="numpy bytes"),
        pytest.param(np.array(["a", "日本".encode(), np.str_("")], object), id="objects of several kinds"),
    ],
)
def test_every_kind_of_string_array_is_sent_as_utf8(array: Any) -> None:
    assert official(sent(array)).string_val == [b"a", "日本".encode(), b""]


def test_bytes_are_sent_whole() -> None:
    values = [b"\x00\xff\x00", b"", b"\x80"]
    assert official(sent(np.array(values, object))).string_val == values


@pytest.mark.parametrize(
    ("array", "message"),
    [
        pytest.param(np.array([1, None], object), "found int", id="a number among strings"),
        pytest.param(np.array(["2020-01-01"], "M8[D]"), "datetime64", id="dates"),
        pytest.param(np.zeros(2, "f4,i4"), "can't be sent", id="records"),
    ],
)
def test_what_no_tensor_carries_is_refused(array: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sent(array)


# --- what we read ---


@by_dtype(VALUES)
def test_tensor_content_is_read_back(dtype: int, array: Any) -> None:
    found = tensors.decode(sent(array))
    assert_same(found, array)
    found[0, 0] = found[1, 1]  # writable, and its own memory
    assert_same(tensors.decode_message(pb.TensorProto.FromString(sent(array))), array)


def as_list(array: Any, dtype: int) -> Any:
    """The array as an official TensorProto in *_val form, as TF Serving before 2.19 answers."""
    proto = official()
    proto.dtype = dtype
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.reshape(-1)
    if dtype in (pb.DT_HALF, pb.DT_BFLOAT16):
        proto.half_val.extend(flat.view(np.uint16).tolist())
    elif dtype == pb.DT_COMPLEX64:
        proto.scomplex_val.extend(flat.view(np.float32).tolist())
    elif dtype == pb.DT_COMPLEX128:
        proto.dcomplex_val.extend(flat.view(np.float64).tolist())
    elif dtype == pb.DT_STRING:
        proto.string_val.extend(value.encode() if isinstance(value, str) else value for value in flat.tolist())
    else:
        field = {
            pb.DT_FLOAT: "float_val",
            pb.DT_DOUBLE: "double_val",
            pb.DT_INT64: "int64_val",
            pb.DT_UINT32: "uint32_val",
            pb.DT_UINT64: "uint64_val",
            pb.DT_BOOL: "bool_val",
        }.get(dtype, "int_val")
        getattr(proto, field).extend(flat.tolist())
    return proto


@by_dtype(VALUES)
def test_lists_are_read(dtype: int, array: Any) -> None:
    data = as_list(array, dtype).SerializeToString()
    found = tensors.decode(data)
    assert_same(found, array)
    found[0, 0] = found[1, 1]
    assert_same(tensors.decode_message(pb.TensorProto.FromString(data)), array)


@by_dtype(VALUES)
def test_a_short_list_repeats_its_last_value_as_in_tensorflow(dtype: int, array: Any) -> None:
    import tensorflow as tf

    proto = as_list(array[:1], dtype)
    proto.tensor_shape.dim[0].size = 2
    found = tensors.decode(proto.SerializeToString())
    expected = np.concatenate([array[:1], np.full((1, 3), array[0, -1], array.dtype)])
    assert_same(found, expected)
    if dtype == pb.DT_STRING:
        assert [value.encode() for value in found.reshape(-1)] == tf.make_ndarray(proto).reshape(-1).tolist()
    else:
        assert_same(tf.make_ndarray(proto), expected)


@by_dtype(VALUES)
def test_an_empty_list_stands_for_zeros_as_in_tensorflow(dtype: int, array: Any) -> None:
    import tensorflow as tf

    proto = as_list(array[:0], dtype)
    proto.tensor_shape.dim[0].size = 2
    found = tensors.decode(proto.SerializeToString())
    assert_same(found, np.full((2, 3), "", object) if dtype == pb.DT_STRING else np.zeros((2, 3), array.dtype))
    runtime = tf.io.parse_tensor(proto.SerializeToString(), tf.dtypes.as_dtype(dtype)).numpy()
    assert_same(tensors.decode(proto.SerializeToString(), text=False), runtime)


@by_dtype(VALUES)
def test_an_array_without_values_keeps_its_dtype_and_shape(dtype: int, array: Any) -> None:
    assert_same(tensors.decode(as_list(array[:0], dtype).SerializeToString()), array[:0])


FIXED = {d: VALUES[d] for d in (pb.DT_FLOAT, pb.DT_DOUBLE, pb.DT_COMPLEX64, pb.DT_COMPLEX128)}
FIELD = {pb.DT_FLOAT: 5, pb.DT_DOUBLE: 6, pb.DT_COMPLEX64: 9, pb.DT_COMPLEX128: 12}


@by_dtype(FIXED)
@pytest.mark.parametrize("form", ["unpacked", "in two chunks", "packed and unpacked", "half a complex number apart"])
def test_lists_written_in_unusual_ways_are_read(dtype: int, array: Any, form: str) -> None:
    proto = as_list(array[:0], dtype)
    proto.tensor_shape.dim[0].size = 2
    raw = array.tobytes()
    width = 4 if dtype in (pb.DT_FLOAT, pb.DT_COMPLEX64) else 8
    one = bytes([FIELD[dtype] << 3 | (5 if width == 4 else 1)])
    packed = lambda part: bytes([FIELD[dtype] << 3 | 2, len(part)]) + part  # noqa: E731 - a word for the lines below
    singly = lambda part: b"".join(one + part[i : i + width] for i in range(0, len(part), width))  # noqa: E731
    cut = array.itemsize * 2 if form != "half a complex number apart" else width
    body = {
        "unpacked": singly(raw),
        "packed and unpacked": packed(raw[:cut]) + singly(raw[cut:]),
    }.get(form, packed(raw[:cut]) + packed(raw[cut:]))
    assert_same(tensors.decode(proto.SerializeToString() + body), array)


def test_fields_in_another_order_are_read() -> None:
    array = VALUES[pb.DT_FLOAT]
    proto = as_list(array, pb.DT_FLOAT)
    dtype = bytes([0x08, pb.DT_FLOAT])
    data = proto.SerializeToString()
    assert data.startswith(dtype)
    assert_same(tensors.decode(data[2:] + dtype), array)


def test_strings_packed_in_tensor_content_are_read() -> None:
    import tensorflow as tf

    values = ["a", "", "日本", "x" * 300]
    packed = b"".join([bytes([1, 0, 6, 0xAC, 0x02]), *(v.encode() for v in values)])
    proto = official()
    proto.dtype = pb.DT_STRING
    proto.tensor_shape.dim.add(size=4)
    proto.tensor_content = packed
    data = proto.SerializeToString()
    assert [v.decode() for v in tf.io.parse_tensor(data, tf.string).numpy()] == values  # so TensorFlow packs them
    assert tensors.decode(data).tolist() == values
    assert tensors.decode_message(pb.TensorProto.FromString(data)).tolist() == values


def test_bytes_that_are_not_text_stay_bytes() -> None:
    data = sent(np.array([b"\xff\xfe", "é".encode()], object))
    assert tensors.decode(data).tolist() == [b"\xff\xfe", "é"]
    assert tensors.decode(data, text=False).tolist() == [b"\xff\xfe", "é".encode()]


def broken(**fields: Any) -> bytes:
    shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in fields.pop("shape", [2])])
    return pb.TensorProto(tensor_shape=fields.pop("tensor_shape", shape), **fields).SerializeToString()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(broken(dtype=1, tensor_content=bytes(12)), r"shape \[2\] holds 2 values, found 3", id="content"),
        pytest.param(broken(dtype=1, tensor_content=bytes(7)), "multiple|size", id="half a value"),
        pytest.param(broken(dtype=1, float_val=[1, 2, 3]), r"shape \[2\] holds 2 values, found 3", id="list"),
        pytest.param(broken(dtype=7, string_val=[b"a"] * 3), r"holds 2 strings, found 3", id="strings"),
        pytest.param(broken(dtype=7, tensor_content=b"\x01\x05ab"), "2 bytes for 6 bytes", id="packed strings"),
        pytest.param(broken(dtype=7, tensor_content=b"\x81"), "cut short", id="packed lengths"),
        pytest.param(broken(dtype=1, shape=[-1]), r"known shape, found \[-1\]", id="unknown dimension"),
        pytest.param(
            broken(dtype=1, tensor_shape=pb.TensorShapeProto(unknown_rank=True)), "unknown rank", id="unknown rank"
        ),
        pytest.param(broken(dtype=20), "DT_RESOURCE", id="a type without values"),
        pytest.param(broken(dtype=0, float_val=[1, 2]), "DT_INVALID", id="no type"),
        pytest.param(b"\x08\x01\x12\x03\xff\xff\xff", "TensorShapeProto", id="a broken shape"),
        pytest.param(b"\x08\x09\x52\x05\x01", "cut short", id="cut short"),
    ],
)
def test_a_broken_tensor_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tensors.decode(data)
