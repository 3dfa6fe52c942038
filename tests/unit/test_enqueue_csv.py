import csv
import io
import json

import pytest
from batchyard.enqueue.csvlines import read_header, read_rows
from batchyard.enqueue.lines import Lines
from batchyard.enqueue.split import InputInvalid, Mark, Origin
from hypothesis import given
from hypothesis import strategies as st

ORIGIN = Origin(shown="t.csv")


def read(data: bytes, delimiter: str = ",", size: int = 1 << 18) -> list[tuple[bytes, str | None, Mark]]:
    lines = Lines((data[i : i + size] for i in range(0, len(data), size)), shown="t.csv")
    header = read_header(lines, delimiter)
    if header is None:
        return []
    return [(run.raws[0], run.problem, run.mark(1)) for run in read_rows(lines, header, delimiter, ORIGIN)]


def rows(data: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    return [json.loads(raw) for raw, problem, _ in read(data, delimiter) if problem is None]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", [], id="an empty file"),
        pytest.param(b"a,b\n", [], id="a header alone"),
        pytest.param(b"a,b\r\n1,x\r\n", [{"a": "1", "b": "x"}], id="CRLF"),
        pytest.param(b"a,b\n1,x", [{"a": "1", "b": "x"}], id="a last row without newline"),
        pytest.param(b'a,b\n"1,2","say ""hi"""\n', [{"a": "1,2", "b": 'say "hi"'}], id="quotes"),
        pytest.param(b'a,b\n"x\r\ny",2\n3,4\n', [{"a": "x\r\ny", "b": "2"}, {"a": "3", "b": "4"}], id="newlines"),
        pytest.param(b"a,b\n\n1,2\n\n", [{"a": "1", "b": "2"}], id="blank lines"),
        pytest.param(b"a\n\xc3\xa9\n", [{"a": "é"}], id="unicode"),
        pytest.param(b",a\n0,x\n", [{"": "0", "a": "x"}], id="a column without a name, as pandas writes its index"),
        pytest.param(b'a\n5" pipe\n', [{"a": '5" pipe'}], id="a quote inside a field"),
    ],
)  # fmt: skip
def test_reads_rows_as_dicts_of_strings(data, expected):
    assert rows(data) == expected


def test_reads_tabs():
    assert rows(b"a\tb\n1,5\t2\n", "\t") == [{"a": "1,5", "b": "2"}]


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        pytest.param(b"a,b\n1,2\n3\n4,5\n", 3, "found 1 field, expected 2 (a, b).", id="too few fields"),
        pytest.param(b'a,b\n"x\ny",1,2\n4,5\n', 2, "found 3 fields, expected 2 (a, b).", id="too many fields"),
        pytest.param(b"a,b\n1,\xff\n4,5\n", 2, "it is not UTF-8", id="not UTF-8"),
        pytest.param(b'a,b\n"1"2,3\n4,5\n', 2, "expected after", id="text behind a closing quote"),
        pytest.param(b'a,b\n"1,2\n3,4\n5,6\n', 2, "unexpected end of data", id="a quote that is never closed"),
    ],
)
def test_names_a_malformed_row_by_its_first_line(data, line, words):
    ((found, problem),) = [(mark.line, problem) for _, problem, mark in read(data) if problem]
    assert found == line
    assert words in problem


def test_a_quote_that_is_never_closed_costs_one_line():
    assert rows(b'a,b\n"1,2\n3,4\n5,6\n') == [{"a": "3", "b": "4"}, {"a": "5", "b": "6"}]


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        pytest.param(b"a,b,a\n", "t.csv:1: found the column 'a' twice", id="a name twice"),
        pytest.param(b"a,\xff\n", "t.csv:1: the header is malformed", id="not UTF-8"),
        pytest.param(b'a,"b\n', "t.csv:1: the header is malformed", id="an open quote"),
    ],
)
def test_refuses_a_header(header, sentence):
    with pytest.raises(InputInvalid, match=sentence):
        read(header + b"1,2\n")


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(texts, texts), max_size=8), st.sampled_from(["\n", "\r\n"]), st.integers(1, 30))
def test_any_table_that_a_writer_writes_comes_back_and_can_be_entered_behind_any_row(table, end, size):
    out = io.StringIO()
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *table])
    data = out.getvalue().encode()
    found = read(data, size=size)
    assert [json.loads(raw) for raw, _, _ in found] == [{"a": a, "b": b} for a, b in table]
    for i, (_, _, mark) in enumerate(found):
        lines = Lines(iter([data[mark.offset :]]), mark.offset, mark.next_line)
        again = [(run.raws[0], run.problem, run.mark(1)) for run in read_rows(lines, ["a", "b"], ",", ORIGIN)]
        assert again == found[i + 1 :]
