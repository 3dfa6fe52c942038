"""Lines with the batch that printed them, from a marked stream to what the worker reads."""

import io
import logging
import threading

import pytest
from batchyard.worker import tags
from batchyard.worker.tags import Line
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def written():
    """What a marked stream wrote, and the stream."""
    under = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="\n")
    yield under, tags.MarkedStream(under)
    tags.leave()


def lines(under):
    under.flush()
    return [tags.parse(raw) for raw in under.buffer.getvalue().split(b"\n")[:-1]]


def test_a_line_outside_of_a_batch_has_no_batch(written):
    under, stream = written
    tags.leave()
    print("hello", file=stream)
    assert lines(under) == [Line("hello")]


def test_each_line_carries_the_batch_that_runs(written):
    under, stream = written
    tags.enter(3, 1)
    print("one\ntwo", file=stream)
    tags.enter(4, 2)
    print("three", file=stream)
    assert lines(under) == [Line("one", 3, 1), Line("two", 3, 1), Line("three", 4, 2)]


def test_on_job_complete_is_batch_minus_one(written):
    under, stream = written
    tags.enter(-1, 1)
    print("closing", file=stream)
    assert lines(under) == [Line("closing", -1, 1)]


def test_parts_of_a_line_wait_for_its_end(written):
    under, stream = written
    tags.enter(0, 1)
    stream.write("a")
    stream.write("b")
    assert lines(under) == []
    stream.write("c\nd")
    assert lines(under) == [Line("abc", 0, 1)]
    stream.flush()
    assert lines(under) == [Line("abc", 0, 1), Line("d", 0, 1)]


def test_progress_without_newlines_is_not_held_back_for_ever(written):
    under, stream = written
    tags.enter(0, 1)
    for _ in range(5000):
        stream.write("....")
    stream.flush()
    assert "".join(line.text for line in lines(under)) == "." * 20_000
    assert len(lines(under)) > 1


def test_threads_do_not_mix_their_lines(written):
    under, stream = written
    turn = [threading.Semaphore(1), threading.Semaphore(0)]

    def work(number):
        tags.enter(number, 1)
        for part in ("a", "b", "c\n"):
            turn[number].acquire()
            stream.write(part + str(number) if part == "a" else part)
            turn[1 - number].release()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines(under) == [Line("a0bc", 0, 1), Line("a1bc", 1, 1)]


@given(st.text(alphabet=st.characters(exclude_characters="\n", exclude_categories=["Cs"])), st.integers(-1, 10**9))
def test_any_text_comes_through(text, batch):
    under = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="\n")
    tags.enter(batch, 7)
    tags.MarkedStream(under).write(text + "\n")
    tags.leave()
    assert lines(under) == [Line(text, batch, 7)]


@given(st.binary())
def test_any_bytes_of_user_code_are_some_line(raw):
    assert isinstance(tags.parse(raw), Line)
    assert isinstance(tags.parse(b"\x1e" + raw), Line)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("no mark", id="plain"),
        pytest.param("", id="empty"),
        pytest.param("\x1ebut no end of a mark", id="no end"),
        pytest.param("\x1e1,2\x1fno level", id="too few fields"),
        pytest.param("\x1e²,1,\x1fdigit that is no number", id="superscript"),
        pytest.param("\x1e" + "9" * 5000 + ",1,\x1fhuge", id="huge number"),
    ],
)
def test_what_is_no_mark_of_ours_is_kept_as_text(text):
    assert tags.parse(text.encode()) == Line(text)


def test_bytes_that_are_no_text_are_replaced():
    assert tags.parse(b"\x1e1,1,\x1fa\xffb") == Line("a\ufffdb", 1, 1)


def test_a_log_record_keeps_its_level_on_each_of_its_lines():
    under = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")
    handler = tags._MarkedHandler(under)
    tags.enter(5, 1)
    handler.emit(logging.LogRecord("n", logging.WARNING, "f", 1, "first\nsecond", None, None))
    tags.leave()
    assert lines(under) == [Line("first", 5, 1, "WARNING"), Line("  second", 5, 1, "WARNING")]


@pytest.mark.parametrize(
    ("start", "mark"),
    [
        (b"\x1e12,1,\x1fxxxx", b"\x1e12,1,\x1f"),
        (b"\x1e,WARNING\x1fxxxx", b"\x1e,WARNING\x1f"),
        (b"xxxx", b""),
        (b"\x1exxxx", b""),
    ],
)
def test_the_mark_of_a_long_line_is_found_for_its_next_piece(start, mark):
    assert tags.mark_of(start) == mark
