"""Result lines as rows of a table."""

import csv
import io

import pytest
from batchyard.output.table import columns, lines, row


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param(
            {"position": 3, "key": "k", "result": {"label": "cat", "score": 0.5}},
            {"position": 3, "key": "k", "label": "cat", "score": 0.5},
            id="an object",
        ),
        pytest.param({"position": 3, "result": [1, 2]}, {"position": 3, "result": [1, 2]}, id="a list"),
        pytest.param({"position": 3, "result": None}, {"position": 3, "result": None}, id="null"),
        pytest.param(
            {"batch": 1, "positions": [2, 3], "result": {"n": 2}},
            {"batch": 1, "positions": [2, 3], "n": 2},
            id="of a batch",
        ),
        pytest.param(
            {"position": 3, "result": {"position": "top", "key": 1, "result": 2}},
            {"position": 3, "result.position": "top", "result.key": 1, "result.result": 2},
            id="names of ours",
        ),
    ],
)
def test_a_line_is_a_flat_row(record, expected):
    assert row(record) == expected


def test_columns_come_in_the_order_they_are_met():
    assert columns([{"position": 0, "b": 1}, {"position": 1, "a": 1, "b": 2}]) == ["position", "b", "a"]


def test_cells_read_back_as_they_were_written():
    rows = [
        {"position": 0, "text": 'a "b", c\nd', "n": 2**70, "f": 0.1, "yes": True, "deep": {"x": [None, "ü"]}},
        {"position": 1, "text": None, "other": "unasked"},
    ]
    names = ["position", "text", "n", "f", "yes", "deep"]
    written = b"".join(lines(rows, names)).decode()
    assert written.splitlines()[0] == "position,text,n,f,yes,deep"
    first, second = csv.DictReader(io.StringIO(written))
    assert first == {
        "position": "0",
        "text": 'a "b", c\nd',
        "n": str(2**70),
        "f": "0.1",
        "yes": "true",
        "deep": '{"x":[null,"ü"]}',
    }
    assert second == {"position": "1", "text": "", "n": "", "f": "", "yes": "", "deep": ""}


def test_no_rows_are_a_header_alone():
    assert b"".join(lines([], ["result"])) == b"result\n"
