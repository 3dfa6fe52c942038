import json

import pytest
from batchyard.api.messages import decode_header, decode_items
from batchyard.enqueue.split import Batch, InputInvalid, Mark, Origin, Run, shortened, split
from hypothesis import given
from hypothesis import strategies as st

FILE = Origin(shown="data.jsonl")


def lines_of(values: list[object], *, bad: set[int] = frozenset(), together: int = 3) -> list[Run]:
    """Return runs of up to ``together`` lines as a reader finds them; those in ``bad`` are malformed."""
    raws = [json.dumps(value).encode() for value in values]
    ends = [sum(len(raw) + 1 for raw in raws[: i + 1]) for i in range(len(raws))]
    runs, at = [], 0
    while at < len(raws):
        stop = at + 1
        while at not in bad and stop < len(raws) and stop - at < together and stop not in bad:
            stop += 1
        problem = "found it, expected better." if at in bad else None
        runs.append(Run(raws[at:stop], FILE, at + 1, ends[stop - 1], stop + 1, problem))
        at = stop
    return runs


def items(batches: list[Batch]) -> list[list[object]]:
    return [decode_items(batch.body) for batch in batches]


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        pytest.param(0, 3, [], id="no items"),
        pytest.param(1, 3, [[0]], id="fewer than a batch"),
        pytest.param(3, 3, [[0, 1, 2]], id="one full batch"),
        pytest.param(4, 3, [[0, 1, 2], [3]], id="the last one is what is left"),
        pytest.param(3, 1, [[0], [1], [2]], id="one item a batch"),
    ],
)
def test_fills_batches_in_order(count, size, expected):
    assert items(list(split(lines_of(list(range(count))), size))) == expected


def test_a_malformed_line_is_a_batch_of_its_own_and_ends_the_one_before():
    batches = list(split(lines_of(list("abcde"), bad={2}), size=4))
    headers = [decode_header(batch.body) for batch in batches]
    assert items(batches) == [["a", "b"], ['"c"'], ["d", "e"]]
    assert [(h.first, h.count) for h in headers] == [(0, 2), (2, 1), (3, 2)]
    assert [h.invalid for h in headers] == [None, "data.jsonl:3: found it, expected better.", None]


def test_a_malformed_line_that_is_not_utf8_is_kept_as_text():
    (batch,) = split([Run([b"a\xffb"], FILE, 1, 4, 2, "found it, expected better.")], 1)
    assert decode_items(batch.body) == ["a\ufffdb"]


def test_batches_go_on_across_files_and_name_the_first():
    runs = [Run([b"1"], Origin(shown=name), 1, 2, 2) for name in ("a", "b", "c")]
    batches = list(split(runs, 2))
    assert [batch.header.source for batch in batches] == ["a", "c"]
    assert [batch.mark for batch in batches] == [Mark(Origin(shown="b"), 1, 2, 2), Mark(Origin(shown="c"), 1, 2, 2)]


@given(
    st.lists(st.integers() | st.text(max_size=5), max_size=30),
    st.sets(st.integers(0, 29)),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_no_item_is_lost_and_the_runs_it_comes_in_do_not_matter(values, bad, size, together, other):
    bad &= set(range(len(values)))
    batches = list(split(lines_of(values, bad=bad, together=together), size))
    assert batches == list(split(lines_of(values, bad=bad, together=other), size))
    positions = [p for batch in batches for p in range(batch.header.first, batch.end)]
    assert positions == list(range(len(values)))
    found = [item for batch in batches for item in decode_items(batch.body)]
    assert found == [json.dumps(value) if i in bad else value for i, value in enumerate(values)]


@given(st.lists(st.integers(0, 999), min_size=1, max_size=30), st.integers(1, 7), st.data())
def test_cutting_from_any_batch_boundary_gives_the_same_batches(values, size, data):
    bad = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=4))
    batches = list(split(lines_of(values, bad=bad), size))
    boundary = data.draw(st.integers(0, len(batches) - 1))
    start = batches[boundary].end
    offset = batches[boundary].mark.offset
    rest = [
        run._replace(offset=run.offset + offset, line=run.line + start, next_line=run.next_line + start)
        for run in lines_of(values[start:], bad={i - start for i in bad if i >= start})
    ]
    assert list(split(rest, size, start)) == batches[boundary + 1 :]


def test_a_batch_over_the_limit_is_refused_with_the_item_that_is_too_much():
    told = r"^data.jsonl:\d \(batch 0, item \d\): .* in \d items, .* lower input.batchSize\.$"
    with pytest.raises(InputInvalid, match=told):
        list(split(lines_of(["x" * 30] * 9), 9, limit=100))


def test_an_item_over_the_limit_is_refused_with_its_place():
    told = r"^data.jsonl:2 \(batch 8, item 1\): found .* 203 bytes, expected at .*; set it\.$"
    with pytest.raises(InputInvalid, match=told):
        list(split(lines_of(["x", "y" * 200], together=1), 1, limit=100, index=7, advice="set it"))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        pytest.param(b"abc", "'abc'", id="short"),
        pytest.param(b"x" * 61, repr("x" * 60 + "…"), id="long"),
        pytest.param(b"\xff\n", repr("\ufffd\n"), id="neither UTF-8 nor printable"),
    ],
)
def test_shows_what_was_found_in_one_short_line(raw, shown):
    assert shortened(raw) == shown
