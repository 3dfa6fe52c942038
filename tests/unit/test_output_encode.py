import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import uuid
from types import MappingProxyType

import ml_dtypes
import numpy as np
import pytest
from batchyard.output.encode import OutputEncodingError, encode_result
from hypothesis import given
from hypothesis import strategies as st


@dataclasses.dataclass
class Box:
    label: str
    score: object


class Color(enum.Enum):
    RED = "red"


Pair = collections.namedtuple("Pair", "a b")


class Model:
    """Stands for a pydantic model: only this method counts."""

    def model_dump(self):
        return {"x": 1}


class Tensor:
    """Stands for a tensor of any library."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._array, dtype)


class BrokenTensor:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach() first")


def lines(data: bytes) -> list[dict]:
    assert data == b"" or data.endswith(b"\n")

    def refuse(constant):
        raise AssertionError(f"{constant} is not strict JSON")

    return [json.loads(line, parse_constant=refuse) for line in data.splitlines()]


def written(value: object) -> object:
    (line,) = lines(encode_result([value], [None], 0, 0))
    return line["result"]


def test_a_list_as_long_as_the_batch_gives_one_line_an_item():
    data = encode_result(["a", "b"], [{"id": 7}, {"id": 8}], first=10, batch=3)
    assert lines(data) == [{"position": 10, "result": "a"}, {"position": 11, "result": "b"}]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(("a", "b"), ["a", "b"], id="a tuple"),
        pytest.param(np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]], id="an array, by its first axis"),
        pytest.param(np.array([1.5, 2.5], np.float32), [1.5, 2.5], id="an array of scalars"),
        pytest.param(Tensor([1, 2]), [1, 2], id="a tensor of another library"),
    ],
)
def test_what_has_one_result_an_item(result, expected):
    assert [line["result"] for line in lines(encode_result(result, [0, 0], 0, 0))] == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param({"scores": np.arange(3)}, {"scores": [0, 1, 2]}, id="a dict"),
        pytest.param("ab", "ab", id="a string"),
        pytest.param(1.5, 1.5, id="a number"),
        pytest.param(np.float32(1.5), 1.5, id="a NumPy scalar"),
        pytest.param(np.array(5), 5, id="an array without axes"),
        pytest.param(Pair(1, 2), {"a": 1, "b": 2}, id="a named tuple"),
        pytest.param(False, False, id="false is a result"),
    ],
)
def test_anything_else_is_one_result_of_the_batch(result, expected):
    data = encode_result(result, [0, 0], first=10, batch=3)
    assert lines(data) == [{"batch": 3, "positions": [10, 11], "result": expected}]


def test_none_gives_no_line():
    assert encode_result(None, [1, 2], 0, 0) == b""


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        pytest.param([1, 2, 3], "handle_batch returned 3 results for 5 items, expected one for each item", id="few"),
        pytest.param([], "handle_batch returned 0 results for 5 items", id="none"),
        pytest.param(np.zeros((1, 5)), "handle_batch returned 1 result for 5 items", id="an array turned round"),
    ],
)
def test_a_sequence_of_another_length_is_refused(result, sentence):
    with pytest.raises(OutputEncodingError, match=f"^{sentence}"):
        encode_result(result, [0] * 5, 0, 0)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        pytest.param("id", 7, id="a field"),
        pytest.param("meta.name", "x", id="a field inside a field"),
        pytest.param("a.b", 1, id="a field whose name holds a dot"),
        pytest.param("meta.none", None, id="missing"),
        pytest.param("id.x", None, id="inside of what is no dict"),
    ],
)
def test_the_key_of_an_item_stands_beside_its_result(key, expected):
    item = {"id": 7, "meta": {"name": "x"}, "a.b": 1}
    found = lines(encode_result([0, 0], [item, "no dict"], 0, 0, key))
    assert [line["key"] for line in found] == [expected, None]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(np.float16(1.5), 1.5, id="float16"),
        pytest.param(np.float32(0.1), 0.1, id="float32 by its shortest digits"),
        pytest.param(np.array([0.1], np.float32), [0.1], id="float32 array"),
        pytest.param(np.longdouble(1.5), 1.5, id="long double"),
        pytest.param(np.array([1.5], ml_dtypes.bfloat16), [1.5], id="bfloat16"),
        pytest.param(ml_dtypes.bfloat16(2), 2, id="bfloat16 scalar"),
        pytest.param(np.array([0.5], ml_dtypes.float8_e4m3fn), [0.5], id="float8"),
        pytest.param(np.array([-8, 7], ml_dtypes.int4), [-8, 7], id="int4"),
        pytest.param(np.uint64(2**64 - 1), 2**64 - 1, id="uint64"),
        pytest.param(np.int8(-1), -1, id="int8"),
        pytest.param(np.array([True, False]), [True, False], id="bool"),
        pytest.param(np.array([1 + 2j]), [[1, 2]], id="complex"),
        pytest.param(np.complex64(1 - 2j), [1, -2], id="complex scalar"),
        pytest.param(3 + 4j, [3, 4], id="Python's complex"),
        pytest.param(np.array(["é", "b"]), ["é", "b"], id="strings"),
        pytest.param(np.array([b"a", b"\xff"]), ["a", "/w=="], id="bytes in an array"),
        pytest.param(np.array([1, None, "x"], object), [1, None, "x"], id="objects"),
        pytest.param(np.array([(1, 2.5)], [("x", "i4"), ("y", "f8")]), [{"x": 1, "y": 2.5}], id="records"),
        pytest.param(np.array(["2020-01-02", "NaT"], "M8[ns]"), ["2020-01-02T00:00:00", None], id="dates"),
        pytest.param(np.datetime64("NaT"), None, id="no date"),
        pytest.param(np.timedelta64(5, "ms"), 0.005, id="a duration in seconds"),
        pytest.param(np.arange(3, dtype=">i4"), [0, 1, 2], id="the other byte order"),
        pytest.param(np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]], id="not contiguous"),
        pytest.param(np.zeros((0, 3)), [], id="empty"),
        pytest.param(np.zeros((2, 0)), [[], []], id="empty inside"),
        pytest.param(np.str_("x"), "x", id="a NumPy string"),
        pytest.param(Tensor(np.arange(2)), [0, 1], id="a tensor inside"),
    ],
)  # fmt: skip
def test_numpy_values_are_written(value, expected):
    assert written(value) == expected
    assert written({"deep": [value]}) == {"deep": [expected]}
    assert written({"deep": [value], "big": 10**30}) == {"deep": [expected], "big": 10**30}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("-inf"), id="infinity"),
        pytest.param(np.float32("nan"), id="a NumPy scalar"),
        pytest.param(np.float64("inf"), id="a float64, which is a float"),
        pytest.param(ml_dtypes.bfloat16("nan"), id="bfloat16"),
    ],
)
def test_what_is_no_finite_number_is_null(value):
    assert written(value) is None
    assert written([np.array([value]), 10**30]) == [[None], 10**30]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(10**30, 10**30, id="an integer over 64 bits"),
        pytest.param("é \u2028 🎈", "é \u2028 🎈", id="unicode"),
        pytest.param("\ud800", "\ud800", id="half a surrogate pair"),
        pytest.param(b"abc", "abc", id="bytes that are text"),
        pytest.param(b"\xff\xfe", "//4=", id="bytes that are none"),
        pytest.param(bytearray(b"x"), "x", id="a bytearray"),
        pytest.param({3, 1, 2}, [1, 2, 3], id="a set, in order"),
        pytest.param({1, "a"}, ["a", 1], id="a mixed set, in one order"),
        pytest.param((1, (2,)), [1, [2]], id="tuples"),
        pytest.param(Pair(1, np.int8(2)), {"a": 1, "b": 2}, id="a named tuple"),
        pytest.param(Box("x", np.float32(0.5)), {"label": "x", "score": 0.5}, id="a dataclass"),
        pytest.param(Box("x", 10**30), {"label": "x", "score": 10**30}, id="a dataclass with a big integer"),
        pytest.param(Color.RED, "red", id="an enum"),
        pytest.param(Model(), {"x": 1}, id="a pydantic model"),
        pytest.param(collections.deque([1]), [1], id="a deque"),
        pytest.param(range(2), [0, 1], id="a range"),
        pytest.param(MappingProxyType({"a": 1}), {"a": 1}, id="a mapping"),
        pytest.param(collections.Counter("aab"), {"a": 2, "b": 1}, id="a counter"),
        pytest.param({1: 2, None: 3, np.int64(4): 5}, {"1": 2, "null": 3, "4": 5}, id="keys that are no strings"),
        pytest.param(decimal.Decimal("1.10"), "1.10", id="a decimal keeps its digits"),
        pytest.param(uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001", id="a uuid"),
        pytest.param(pathlib.Path("a/b"), "a/b", id="a path"),
        pytest.param(datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), "2020-01-02T00:00:00+00:00", id="a time"),
        pytest.param(datetime.date(2020, 1, 2), "2020-01-02", id="a date"),
        pytest.param(datetime.timedelta(seconds=1.5), 1.5, id="a duration in seconds"),
    ],
)  # fmt: skip
def test_python_values_are_written(value, expected):
    assert written(value) == expected
    assert written([value, 10**30]) == [expected, 10**30]


def circle() -> list:
    loop: list = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(object(), "a value of type 'object'", id="an object"),
        pytest.param({"deep": [print]}, "a value of type 'builtin_function_or_method'", id="a function inside"),
        pytest.param((x for x in "ab"), "a value of type 'generator'", id="a generator"),
        pytest.param(np.float32, "a value of type 'type'", id="a class"),
        pytest.param({(1, 2): 3}, "a dict with a key of type 'tuple'", id="a key"),
        pytest.param(np.array(b"ab").astype("V2"), "an array of dtype void16", id="raw memory"),
        pytest.param(circle(), "holds itself or is nested too deeply", id="a circle"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_the_item(value, words):
    with pytest.raises(OutputEncodingError) as caught:
        encode_result([0, value], [0, 0], first=10, batch=0)
    assert str(caught.value).startswith("handle_batch returned, for item 1 of the batch (position 11), ")
    assert words in str(caught.value)


def test_an_error_in_the_users_own_type_is_told():
    with pytest.raises(OutputEncodingError, match=r"'list', and writing it failed: RuntimeError: call detach"):
        encode_result([BrokenTensor()], [0], 0, 0)
    with pytest.raises(OutputEncodingError, match=r"'BrokenTensor', and writing it failed"):
        encode_result(BrokenTensor(), [0], 0, 0)


def test_a_result_of_a_megabyte_an_item_is_written():
    assert written("x" * (1 << 20)) == "x" * (1 << 20)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(json_values, min_size=1, max_size=5))
def test_any_json_value_comes_back(values):
    assert [line["result"] for line in lines(encode_result(values, values, 0, 0))] == values
