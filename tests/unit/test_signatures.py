"""Which signature is used, and what a model input must be to fit it."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from batchyard.serving import signatures, tensors
from batchyard.serving.protos import metadata_pb2
from batchyard.serving.protos import tensor_pb2 as pb
from batchyard.serving.signatures import InvalidInput, Signature, SignatureNotFound, TensorSpec

WHERE = "model 'm' version 3"


def spec(dtype: int = pb.DT_FLOAT, *shape: int | None) -> TensorSpec:
    return TensorSpec(dtype, shape)


def signature(
    name: str = "serving_default", optional: frozenset[str] = frozenset(), **inputs: TensorSpec
) -> Signature:
    return Signature(name, inputs or {"x": spec(pb.DT_FLOAT, None, 2)}, {}, optional=optional)


def fit_one(value: Any, want: TensorSpec) -> Any:
    return signatures.fit(signature(x=want), {"x": value}, WHERE)["x"]


# --- reading ---


def test_signatures_are_read_without_the_init_op() -> None:
    found = metadata_pb2.SignatureDefMap()
    found.signature_def[signatures.INIT_OP].outputs[signatures.INIT_OP].name = "NoOp"
    definition = found.signature_def["serving_default"]
    definition.method_name = "tensorflow/serving/predict"
    definition.inputs["x"].name = "x:0"
    definition.inputs["x"].dtype = pb.DT_FLOAT
    definition.inputs["x"].tensor_shape.dim.add(size=-1)
    definition.inputs["x"].tensor_shape.dim.add(size=3)
    definition.inputs["scale"].tensor_shape.SetInParent()
    definition.outputs["y"].tensor_shape.unknown_rank = True
    definition.defaults["scale"].dtype = pb.DT_FLOAT
    assert signatures.read(found) == {
        "serving_default": Signature(
            name="serving_default",
            inputs={"x": TensorSpec(pb.DT_FLOAT, (None, 3), "x:0"), "scale": TensorSpec(pb.DT_INVALID, ())},
            outputs={"y": TensorSpec(pb.DT_INVALID, None)},
            method="tensorflow/serving/predict",
            optional=frozenset({"scale"}),
        )
    }


@pytest.mark.parametrize(
    ("want", "text"),
    [
        pytest.param(spec(pb.DT_FLOAT, None, 3), "float32[?, 3]", id="batch"),
        pytest.param(spec(pb.DT_STRING), "string[]", id="scalar"),
        pytest.param(TensorSpec(pb.DT_BFLOAT16, None), "bfloat16[…]", id="unknown rank"),
        pytest.param(spec(pb.DT_RESOURCE), "DT_RESOURCE[]", id="not an array"),
        pytest.param(spec(77), "number 77[]", id="unknown type"),
    ],
)
def test_a_tensor_is_shown_as_a_user_reads_it(want: TensorSpec, text: str) -> None:
    assert str(want) == text


# --- choosing ---


def have(*names: str) -> dict[str, Signature]:
    return {name: signature(name) for name in names}


@pytest.mark.parametrize(
    ("names", "key", "chosen"),
    [
        pytest.param(["a", "serving_default"], "a", "a", id="the configured key"),
        pytest.param(["a"], None, "a", id="the only one"),
        pytest.param(["a", "predict", "serving_default"], None, "serving_default", id="serving_default"),
        pytest.param(["a", "predict"], None, "predict", id="predict"),
    ],
)
def test_the_signature_is_chosen_by_rule(names: list[str], key: str | None, chosen: str) -> None:
    assert signatures.choose(have(*names), key, WHERE).name == chosen


@pytest.mark.parametrize(
    ("names", "key", "message"),
    [
        pytest.param(
            ["embed", "rank"],
            None,
            "model 'm' version 3 has several signatures ('embed', 'rank'): name one as signatureKey",
            id="several and no rule",
        ),
        pytest.param(
            ["embed", "rank"],
            "embedd",
            WHERE + " has no signature 'embedd'; its signatures are 'embed', 'rank'. Did you mean 'embed'?",
            id="a key that is not there",
        ),
        pytest.param(["a"], "other", "its signatures are 'a'.", id="a wrong key with only one"),
        pytest.param([], None, "has no signature to call", id="no signature at all"),
        pytest.param([], "a", "its signatures are none.", id="no signature and a key"),
    ],
)
def test_no_choice_is_an_error_that_lists_them(names: list[str], key: str | None, message: str) -> None:
    with pytest.raises(SignatureNotFound) as caught:
        signatures.choose(have(*names), key, WHERE)
    assert message in str(caught.value)


# --- names ---


@pytest.mark.parametrize(
    ("model_input", "message"),
    [
        pytest.param(
            {"imges": [[1, 2]], "mask": [True]},
            "model 'm' version 3: signature 'serving_default' has no input 'imges'; it takes 'images' float32[?, 2], "
            "'mask' bool[?]. Did you mean 'images'?",
            id="unknown input",
        ),
        pytest.param(
            {"images": [[1, 2]]},
            "model 'm' version 3: missing input 'mask'; signature 'serving_default' takes 'images' float32[?, 2], "
            "'mask' bool[?]",
            id="missing input",
        ),
        pytest.param({}, "missing input 'images', 'mask'", id="nothing given"),
        pytest.param({1: [[1, 2]]}, "has no input 1; it takes", id="a name that is no text"),
        pytest.param(np.zeros((1, 2)), "is a dict of input name to array, found ndarray; ", id="no dict"),
        pytest.param([[1, 2]], "is a dict of input name to array, found list; ", id="a list"),
    ],
)
def test_inputs_are_matched_by_name(model_input: Any, message: str) -> None:
    takes = signature(images=spec(pb.DT_FLOAT, None, 2), mask=spec(pb.DT_BOOL, None))
    with pytest.raises(InvalidInput) as caught:
        signatures.fit(takes, model_input, WHERE)
    assert message in str(caught.value)


def test_an_input_with_a_default_may_be_left_out() -> None:
    takes = signature(optional=frozenset({"scale"}), x=spec(pb.DT_FLOAT, None), scale=spec(pb.DT_FLOAT))
    assert list(signatures.fit(takes, {"x": [1.0]}, WHERE)) == ["x"]
    assert list(signatures.fit(takes, {"x": [1.0], "scale": 2}, WHERE)) == ["x", "scale"]


# --- shapes ---


@pytest.mark.parametrize(
    ("want", "value"),
    [
        pytest.param(spec(pb.DT_FLOAT, None, 2), np.zeros((5, 2)), id="a batch"),
        pytest.param(spec(pb.DT_FLOAT), 3.5, id="a scalar"),
        pytest.param(TensorSpec(pb.DT_FLOAT, None), np.zeros((1, 2, 3)), id="unknown rank"),
        pytest.param(spec(pb.DT_FLOAT, None, None), np.zeros((2, 0)), id="items without values"),
        pytest.param(spec(pb.DT_STRING, None, 2), [["a", "b"]], id="strings"),
    ],
)
def test_a_shape_that_fits_is_taken(want: TensorSpec, value: Any) -> None:
    assert fit_one(value, want).shape == np.shape(value)


@pytest.mark.parametrize(
    ("want", "value", "message"),
    [
        pytest.param(
            spec(pb.DT_FLOAT, None, 2), np.zeros((5, 3)), "expected shape [?, 2], found [5, 3]", id="static dimension"
        ),
        pytest.param(
            spec(pb.DT_FLOAT, None, 8, 8, 3), np.zeros((1, 1, 8, 8, 3)), "found [1, 1, 8, 8, 3]", id="a rank too many"
        ),
        pytest.param(
            spec(pb.DT_FLOAT, None, 2),
            [1.0, 2.0],
            "expected shape [?, 2], found [2]; the first dimension is the batch: pass a list of items, not one item",
            id="one item instead of a batch",
        ),
        pytest.param(spec(pb.DT_FLOAT, None, 2), 1.0, "expected shape [?, 2], found []", id="a scalar for a batch"),
        pytest.param(spec(pb.DT_FLOAT), [1.0], "expected shape [], found [1]", id="a list for a scalar"),
        pytest.param(spec(pb.DT_STRING, None), "abc", "expected shape [?], found []", id="one string for a batch"),
        pytest.param(
            spec(pb.DT_FLOAT, None, 2), np.zeros((0, 2)), "the batch is empty (shape [0, 2])", id="no items"
        ),
        pytest.param(spec(pb.DT_STRING, None), [], "the batch is empty (shape [0])", id="no strings"),
        pytest.param(spec(pb.DT_INT64, None), [], "the batch is empty (shape [0])", id="an empty list has no dtype"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(want: TensorSpec, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fit_one(value, want)
    assert str(caught.value).startswith("model 'm' version 3: input 'x': ")
    assert message in str(caught.value)


# --- values ---

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        pytest.param([1, 2], pb.DT_FLOAT, np.array([1, 2], np.float32), id="int to float"),
        pytest.param([0.1, NAN, -INF], pb.DT_FLOAT, np.array([0.1, NAN, -INF], np.float32), id="double to float"),
        pytest.param([True, False], pb.DT_INT64, np.array([1, 0]), id="bool to int"),
        pytest.param([1, 0], pb.DT_BOOL, np.array([True, False]), id="0 and 1 to bool"),
        pytest.param([0, 255], pb.DT_UINT8, np.array([0, 255], np.uint8), id="int in range"),
        pytest.param([-128, 127], pb.DT_INT8, np.array([-128, 127], np.int8), id="signed in range"),
        pytest.param([2**64 - 1], pb.DT_UINT64, np.array([2**64 - 1], np.uint64), id="the largest number"),
        pytest.param([2**53 + 1], pb.DT_DOUBLE, np.array([2.0**53]), id="rounding is fine"),
        pytest.param([1.5], pb.DT_COMPLEX64, np.array([1.5 + 0j], np.complex64), id="real to complex"),
        pytest.param([1 + 2j], pb.DT_COMPLEX64, np.array([1 + 2j], np.complex64), id="complex to complex"),
        pytest.param([1.5, 2], pb.DT_BFLOAT16, np.array([1.5, 2], ml_dtypes.bfloat16), id="to bfloat16"),
        pytest.param(
            np.array([1.5], ml_dtypes.bfloat16), pb.DT_FLOAT, np.array([1.5], np.float32), id="from bfloat16"
        ),
        pytest.param([70000.0, INF], pb.DT_FLOAT, np.array([70000, INF], np.float32), id="infinity stays"),
        pytest.param(np.array([1, 2], ">f4"), pb.DT_FLOAT, np.array([1, 2], np.float32), id="big-endian"),
        pytest.param(np.array([1, 2.5], object), pb.DT_FLOAT, np.array([1, 2.5], np.float32), id="objects"),
        pytest.param([np.float32(1), np.float32(2)], pb.DT_FLOAT, np.array([1, 2], np.float32), id="numpy scalars"),
        pytest.param(range(3), pb.DT_INT32, np.array([0, 1, 2], np.int32), id="a range"),
        pytest.param((1, 2), pb.DT_INT32, np.array([1, 2], np.int32), id="a tuple"),
    ],
)
def test_values_become_the_signatures_dtype(value: Any, dtype: int, expected: Any) -> None:
    found = fit_one(value, spec(dtype, None))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        pytest.param([1.5], pb.DT_INT64, "expected int64, found float64: the cast would lose", id="float to int"),
        pytest.param([1.0], pb.DT_UINT8, "write .astype('uint8') yourself", id="whole floats to int"),
        pytest.param([0.5], pb.DT_BOOL, "expected bool, found float64", id="float to bool"),
        pytest.param([2], pb.DT_BOOL, "2 is out of range for bool (0 to 1)", id="2 to bool"),
        pytest.param([256], pb.DT_UINT8, "256 is out of range for uint8 (0 to 255)", id="int too large"),
        pytest.param([5, -1], pb.DT_UINT64, "-1 is out of range for uint64", id="negative to unsigned"),
        pytest.param([2**63], pb.DT_INT64, "9223372036854775808 is out of range for int64", id="one past the end"),
        pytest.param([2**70], pb.DT_INT64, "found int 1180591620717411303424", id="beyond 64 bits"),
        pytest.param([1e300], pb.DT_FLOAT, "1e+300 is out of range for float32", id="double too large"),
        pytest.param([1.0, 70000], pb.DT_HALF, "70000.0 is out of range for float16", id="float too large"),
        pytest.param([70000], pb.DT_HALF, "70000 is out of range for float16", id="int too large for half"),
        pytest.param([1e300], pb.DT_BFLOAT16, "1e+300 is out of range for bfloat16", id="double to bfloat16"),
        pytest.param([1e300 + 0j], pb.DT_COMPLEX64, "is out of range for complex64", id="complex too large"),
        pytest.param([1j], pb.DT_FLOAT, "expected float32, found complex128", id="complex to real"),
        pytest.param(["1.5"], pb.DT_FLOAT, "expected float32, found str '1.5'", id="text to number"),
        pytest.param([b"1"], pb.DT_INT64, "expected int64, found bytes b'1'", id="bytes to number"),
        pytest.param([1.0, None], pb.DT_FLOAT, "expected float32, found NoneType None", id="None among numbers"),
        pytest.param([{"a": 1}], pb.DT_FLOAT, "expected float32, found dict {'a': 1}", id="dicts"),
        pytest.param([[1, 2], [3]], pb.DT_FLOAT, "can't become a float32 array: the lists are ragged", id="ragged"),
        pytest.param(
            np.array([[1, 2], [3]], object), pb.DT_FLOAT, "the lists are ragged, every row", id="ragged objects"
        ),
        pytest.param(
            np.array(["2020-01-01"], "M8[D]"), pb.DT_INT64, "found date datetime.date(2020, 1, 1)", id="dates"
        ),
        pytest.param(["a" * 100], pb.DT_FLOAT, "…", id="a long value is cut"),
        pytest.param([1], pb.DT_RESOURCE, "tensors of type DT_RESOURCE can't be sent", id="an input of no array"),
        pytest.param([1], pb.DT_STRING, "expected str or bytes, found int 1", id="number to text"),
        pytest.param(["a", None], pb.DT_STRING, "expected str or bytes, found NoneType None", id="None among text"),
        pytest.param([["a"], ["b", "c"]], pb.DT_STRING, "the lists are ragged", id="ragged text"),
        pytest.param(["\ud800"], pb.DT_STRING, "can't be written as UTF-8", id="half a character"),
    ],
)
def test_values_that_would_be_lost_are_refused(value: Any, dtype: int, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fit_one(value, spec(dtype, None))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(["é", b"\xff\x00"], id="a list"),
        pytest.param(np.array(["é", b"\xff\x00"], object), id="objects"),
        pytest.param([np.str_("é"), np.bytes_(b"\xff\x00")], id="numpy scalars"),
    ],
)
def test_text_and_bytes_are_taken_whole(value: Any) -> None:
    assert fit_one(value, spec(pb.DT_STRING, None)).tolist() == ["é", b"\xff\x00"]


def test_numpy_text_arrays_are_taken() -> None:
    assert fit_one(np.array(["a", "日本"]), spec(pb.DT_STRING, None)).tolist() == ["a", "日本"]


def test_an_array_that_fits_is_not_copied() -> None:
    array = np.zeros((4, 2), np.float32)
    assert fit_one(array, spec(pb.DT_FLOAT, None, 2)) is array
    assert np.shares_memory(array, np.frombuffer(tensors.encode(array)[-1], np.float32))
