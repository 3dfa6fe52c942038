import json
from collections.abc import Iterator

import pytest
from batchyard.enqueue.jsonlines import read_values
from batchyard.enqueue.lines import Lines
from batchyard.enqueue.split import InputInvalid, Mark, Origin
from hypothesis import given, settings
from hypothesis import strategies as st

ORIGIN = Origin(shown="data.jsonl")


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def read(data: bytes, size: int = 1 << 18, after: Mark | None = None) -> list[tuple[bytes, str | None, Mark]]:
    offset, line = (after.offset, after.next_line) if after else (0, 1)
    lines = Lines(blocks(data[offset:], size), offset, line, shown="data.jsonl")
    found = []
    for run in read_values(lines, ORIGIN):
        for i, raw in enumerate(run.raws, 1):
            found.append((raw, run.problem, run.mark(i)))
    return found


def values(data: bytes, size: int = 1 << 18) -> list[object]:
    return [json.loads(raw) for raw, problem, _ in read(data, size) if problem is None]


def problems(data: bytes) -> list[tuple[int, str]]:
    return [(mark.line, problem) for _, problem, mark in read(data) if problem is not None]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
layouts = st.sampled_from(
    [
        {},
        {"indent": 0},
        {"indent": 2},
        {"indent": "\t"},
        {"separators": (",", ":")},
        {"ensure_ascii": False},
        {"indent": 1, "separators": (" ,\n\n", "\r\n:\n ")},
    ]
)
gaps = st.sampled_from(["\n", "\r\n", " \n\t", "\n\n  \n", " ", "\n\r\n"])


@given(st.lists(st.tuples(json_values, layouts, gaps), max_size=12), st.integers(1, 64), st.sampled_from(["", "\n"]))
@settings(max_examples=200, deadline=None)
def test_any_values_in_any_layout_and_any_block_size_come_back(written, size, start):
    # surrogates cannot be written as UTF-8; everything else can
    text = start + "".join(json.dumps(value, **layout) + gap for value, layout, gap in written)
    data = text.encode("utf-8", "surrogatepass")
    data = (
        data
        if _is_utf8(data)
        else start.encode() + b"".join(json.dumps(value).encode() + gap.encode() for value, _, gap in written)
    )
    assert values(data, size) == [value for value, _, _ in written]


@given(
    st.lists(
        st.tuples(json_values.map(json.dumps) | st.sampled_from(['{"a": 1', "[1,", "oops", '{"a" 1}', "]"]), gaps),
        max_size=10,
    )
)
@settings(max_examples=200, deadline=None)
def test_reading_goes_on_behind_any_value_with_the_same_values(written):
    data = "".join(text + gap for text, gap in written).encode()
    whole = read(data)
    for i, (_, _, mark) in enumerate(whole):
        again = read(data, after=mark)
        assert again == whole[i + 1 :]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", [], id="an empty file"),
        pytest.param(b"\n \r\n\t\n", [], id="blank lines"),
        pytest.param(b'{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}], id="a last line without newline"),
        pytest.param(b'{"a": 1}\r\n{"a": 2}\r\n', [{"a": 1}, {"a": 2}], id="CRLF"),
        pytest.param(b'{"a":1}{"a":2}[3]\n4', [{"a": 1}, {"a": 2}, [3], 4], id="concatenated on a line"),
        pytest.param(b'1 2 "x"\n', [1, 2, "x"], id="separated by spaces"),
        pytest.param(b'{\n "a": 1\n}{\n "a": [\n{\n}\n]\n}\n5', [{"a": 1}, {"a": [{}]}, 5], id="pretty-printed"),
        pytest.param(b'{"a":\n"}}]]"\n}\n1\n', [{"a": "}}]]"}, 1], id="brackets in strings do not mislead"),
        pytest.param(b'[1,2,3]\n[4]\n', [[1, 2, 3], [4]], id="arrays are items"),
        pytest.param(b"123456789012345678901234567890\n", [123456789012345678901234567890], id="a big integer"),
        pytest.param(b"[-Infinity, Infinity]\n", [[float("-inf"), float("inf")]], id="infinities"),
        pytest.param('"\u2028 é 🎈 \\ud800"\n'.encode(), ["\u2028 é 🎈 \ud800"], id="unicode, and half a pair"),
    ],
)  # fmt: skip
def test_reads(data, expected):
    assert values(data) == expected
    assert values(data, size=1) == expected
    assert problems(data) == []


def test_not_a_number_is_an_item():
    (value,) = values(b"NaN\n")
    assert value != value


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param(b'1\n{"a": tru}\n2\n', [(2, "found '{\"a\": tru}' (Expecting value at column 7)")], id="a typo"),
        pytest.param(b'{"a": 1\n{"a": 2}\n', [(1, "Expecting ',' delimiter at line 2, column 1")], id="a cut line"),
        pytest.param(b'{"a": "te\n{"a": 2}\n', [(1, "at column 7")], id="a cut string"),
        pytest.param(b'1\n\n[1,\n', [(3, "the value has no end")], id="the end of the file in a value"),
        pytest.param(b"2024-01-01\n1\n", [(1, "something follows the value at column 5")], id="a date"),
        pytest.param(b'{"a": 1} oops\n1\n', [(1, "Expecting value at column 10")],
                     id="a line is read whole or not at all"),
        pytest.param(b'"a\xff"\n1\n', [(1, "byte 0xff at column 3 is not UTF-8")], id="not UTF-8"),
        pytest.param(b"{'a': 1}\n", [(1, "Expecting property name enclosed in double quotes")], id="a Python dict"),
        pytest.param(b"9" * 5000 + b"\n1\n", [(1, "4300 digits")], id="an integer that Python refuses"),
        pytest.param(b"[" * 5000 + b"\n1\n", [(1, "nested too deeply")], id="nested too deeply"),
        pytest.param(b"}\n]\n1\n", [(1, "Expecting value"), (2, "Expecting value")], id="closed without being open"),
    ],
)  # fmt: skip
def test_names_a_malformed_line_and_goes_on_with_the_next(data, found):
    told = problems(data)
    assert [line for line, _ in told] == [line for line, _ in found]
    for (_, problem), (_, words) in zip(told, found, strict=True):
        assert words in problem
        assert problem.endswith("expected one JSON value.")


def test_what_follows_a_malformed_line_is_kept():
    assert values(b'{"a": 1\n{"a": 2}\n{"a": 3}\n') == [{"a": 2}, {"a": 3}]


def test_shows_only_the_beginning_of_a_long_malformed_line():
    ((_, problem),) = problems(b'{"a": "' + b"x" * 10_000 + b"\n")
    assert len(problem) < 200
    assert "…" in problem


def test_a_value_that_spans_many_lines_is_read_in_linear_time():
    items = [{"id": i, "s": "]}"} for i in range(20_000)]
    data = json.dumps(items, indent=0).encode() + b"\n7\n"
    assert values(data, size=1 << 16) == [items, 7]


def test_a_line_over_the_limit_is_refused_with_what_to_do():
    lines = Lines(blocks(b"[" + b"1," * 100, 10), shown="big.json", limit=64)
    with pytest.raises(InputInvalid, match=r"^big.json:1: found more than .* without a newline, .*jq -c"):
        list(read_values(lines, ORIGIN))


def test_a_line_of_64_mib_is_an_item():
    text = b'"' + b"x" * (64 << 20) + b'"'
    ((raw, problem, mark),) = read(text + b"\n")
    assert (raw == text, problem, mark.line) == (True, None, 1)
