"""The wire between a worker and a handler process: any cut of the stream gives back the same frames."""

import itertools

import pytest
from batchyard.worker import frames
from batchyard.worker.frames import Frame, Kind
from hypothesis import given
from hypothesis import strategies as st

FRAMES = st.lists(st.builds(Frame, st.sampled_from(Kind), st.integers(0, 2**64 - 1), st.binary(max_size=200)))


def stream_of(sent):
    return b"".join(frames.header(f.kind, f.seq, len(f.body)) + f.body for f in sent)


@given(FRAMES, st.lists(st.integers(0, 3000)))
def test_any_cut_of_the_stream_gives_back_the_same_frames(sent, cuts):
    stream = stream_of(sent)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = frames.Reader()
    found = []
    for start, stop in itertools.pairwise(places):
        found += reader.feed(stream[start:stop])
    assert found == sent


def test_byte_by_byte():
    sent = [Frame(Kind.READY, 0, b""), Frame(Kind.RESULT, 2**40, b"\0\xff"), Frame(Kind.ERROR, 3, b"{}")]
    reader = frames.Reader()
    assert [f for byte in stream_of(sent) for f in reader.feed(bytes([byte]))] == sent


def test_an_incomplete_frame_waits():
    stream = stream_of([Frame(Kind.RESULT, 1, b"body")])
    reader = frames.Reader()
    assert list(reader.feed(stream[:-1])) == []
    assert list(reader.feed(stream[-1:])) == [Frame(Kind.RESULT, 1, b"body")]


def test_what_is_no_frame_is_refused():
    with pytest.raises(ValueError, match="255"):
        list(frames.Reader().feed(b"\xff" * 13))


def test_what_came_before_a_fault_is_given_first():
    stream = stream_of([Frame(Kind.RESULT, 1, b"fine")]) + b"\xff" * 13
    found = frames.Reader().feed(stream)
    assert next(found) == Frame(Kind.RESULT, 1, b"fine")
    with pytest.raises(ValueError, match="255"):
        next(found)


def test_a_body_over_four_gigabytes_is_refused():
    with pytest.raises(ValueError, match="at most 4294967295 bytes, found 4294967296"):
        frames.header(Kind.BATCH, 1, 2**32)


@given(st.integers(-1, 2**62), st.integers(1, 2**32 - 1), st.binary())
def test_a_batch_keeps_index_attempt_and_body(index, attempt, body):
    assert frames.split_batch(frames.batch_prefix(index, attempt) + body) == (index, attempt, body)
