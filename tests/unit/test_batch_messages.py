"""The body of a queue message gives back what was put in."""

import json
import math

import pytest
from batchyard.api.messages import Header, decode_header, decode_items, encode, reference


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([], id="none"),
        pytest.param([None, True, "é\n\u2028", {"a": [1.5]}], id="values"),
        pytest.param([2**64, -(2**63) - 1, 10**40], id="integers over 64 bits"),
        pytest.param([0.1234567890123456789, 1e300], id="floats"),
    ],
)
def test_items_come_back_as_python_reads_them(items: list[object]) -> None:
    found = decode_items(encode(Header(7, len(items)), json.dumps(items).encode()))
    assert found == items
    assert [type(item) for item in found] == [type(item) for item in items]


def test_what_only_python_writes_comes_back_too() -> None:
    nan, infinity = decode_items(encode(Header(0, 2), b"[NaN, -Infinity]"))
    assert math.isnan(nan)
    assert infinity == -math.inf


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(Header(0, 1), id="plain"),
        pytest.param(Header(3, 1, invalid="items.jsonl:4: not JSON", source="items.jsonl"), id="invalid"),
    ],
)
def test_a_header_comes_back(header: Header) -> None:
    assert decode_header(encode(header, b"[1]")) == header


def test_a_reference_is_a_header_that_tells_the_size_of_what_lies_elsewhere() -> None:
    header = Header(3, 2, source="items.jsonl")
    body = reference(header, 5_000_000)
    assert len(body) < 100
    assert decode_header(body) == Header(3, 2, source="items.jsonl", stored=5_000_000)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}\n[]", b"\xff\n[]", b'"text"\n[]'])
def test_a_body_that_is_not_ours_is_told(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a batch message"):
        decode_header(body)
