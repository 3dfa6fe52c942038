"""Items reach the handler as Python's own json would read them, whatever orjson makes of them."""

import json

import pytest
from batchyard.api.messages import Header, decode_header, decode_items, encode
from hypothesis import given
from hypothesis import strategies as st

ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def same(one, other):
    return json.dumps(one) == json.dumps(other)


@given(st.lists(ITEMS), st.sampled_from([None, 1]))
def test_items_are_what_was_written(items, indent):
    body = encode(Header(0, len(items)), json.dumps(items, indent=indent).encode())
    assert same(decode_items(body), items)


@pytest.mark.parametrize(
    "number",
    [
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        10**19,
        10**18,
        -(10**18),
        -(10**19),
        10**40,
        0.1234567890123456789,
        1e300,
    ],
)
def test_numbers_at_the_edges_of_64_bits_stay_exact(number):
    items = decode_items(encode(Header(0, 1), json.dumps([number, {"a": [number]}]).encode()))
    assert items == [number, {"a": [number]}]
    assert type(items[0]) is type(number)


@given(
    st.integers(0, 2**53),
    st.integers(0, 2**31),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_header_is_what_was_written(first, count, invalid, source):
    header = Header(first, count, invalid, source)
    assert decode_header(encode(header, b"[]")) == header


@pytest.mark.parametrize("body", [b"", b"\n[]", b"{}\n[]", b"[]\n[]", b'{"first": "x", "count": 1}\n[]', b"null\n[]"])
def test_what_is_no_message_is_refused(body):
    with pytest.raises(ValueError, match=r"not a batch message|invalid literal"):
        decode_header(body)


def test_items_that_are_no_array_are_refused():
    with pytest.raises(ValueError, match="JSON array, found dict"):
        decode_items(encode(Header(0, 1), b"{}"))
