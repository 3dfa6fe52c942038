"""What an enqueuer may rely on."""

import pytest
from batchyard.queue.port import BodyTooLarge, Completion, Counts, Position, PublishConflict


def test_an_empty_queue_stands_at_zero(queue):
    assert queue.position() == Position(0, b"", sealed=False)
    state = queue.state()
    assert state.counts == Counts(0, 0, 0, 0)
    assert (state.completion, state.halt, state.items, state.total) == (Completion.ABSENT, None, None, None)


def test_a_publish_moves_the_position_and_keeps_its_cursor_for_the_next_enqueuer(queue, other):
    queue.publish(0, [b"a", b"b"], cursor=b"\x00line 7\xff")
    assert other.position() == Position(2, b"\x00line 7\xff", sealed=False)
    other.publish(2, [b"c"], cursor=b"line 9")
    assert queue.position() == Position(3, b"line 9", sealed=False)
    assert queue.state().counts.pending == 3


def test_a_cursor_can_be_moved_without_a_batch(queue):
    queue.publish(0, [b"a"], cursor=b"1")
    queue.publish(1, [], cursor=b"2")
    assert queue.position() == Position(1, b"2", sealed=False)


@pytest.mark.parametrize("first", [0, 1, 3, 10, -1], ids=lambda first: f"first={first}")
def test_a_publish_at_another_place_is_refused_and_changes_nothing(queue, first):
    queue.publish(0, [b"a", b"b"], cursor=b"mine")
    with pytest.raises(PublishConflict, match="2"):
        queue.publish(first, [b"x"], cursor=b"theirs")
    assert queue.position() == Position(2, b"mine", sealed=False)


def test_two_enqueuers_cannot_interleave(queue, other):
    start = other.position().published
    queue.publish(start, [b"mine"])
    with pytest.raises(PublishConflict):
        other.publish(start, [b"theirs"])
    queue.seal(1, 1)
    assert [d.body for d in queue.receive(10, lease=60, wait=0)] == [b"mine"]


def test_sealing_tells_the_total_and_the_items(queue, other):
    queue.publish(0, [b"a", b"b"])
    queue.seal(2, items=199)
    state = other.state()
    assert (state.sealed, state.total, state.items, state.completion) == (True, 2, 199, Completion.WAITING)
    assert other.position().sealed


def test_sealing_again_is_harmless(queue, other):
    queue.publish(0, [b"a"])
    queue.seal(1, 5)
    other.seal(1, 5)
    assert (queue.state().total, queue.state().items) == (1, 5)


@pytest.mark.parametrize("published", [0, 1, 3])
def test_sealing_at_another_number_is_refused(queue, published):
    queue.publish(0, [b"a", b"b"])
    with pytest.raises(PublishConflict):
        queue.seal(published, 1)
    assert not queue.state().sealed


def test_a_sealed_queue_takes_nothing_more(queue, other):
    queue.publish(0, [b"a"])
    queue.seal(1, 1)
    with pytest.raises(PublishConflict):
        other.publish(1, [b"b"])
    with pytest.raises(PublishConflict):
        queue.seal(2, 2)
    assert queue.state().total == 1


BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\x00", id="one NUL byte"),
    pytest.param("«größe» 数据 🎈\u2028".encode(), id="unicode"),
    pytest.param(bytes(range(256)) * 4096, id="1 MiB"),
    pytest.param(b"\x00\xff" * 5_000_000, id="10 MB"),
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_comes_out_as_it_went_in(queue, take, failure, body):
    queue.publish(0, [body])
    queue.seal(1, 1)
    delivery = take()
    assert delivery.body == body
    assert queue.bury(delivery, failure())
    assert [batch.body for batch in queue.failed()] == [body]


def test_a_body_over_the_limit_is_refused_with_all_of_its_publish(queue):
    huge = bytes(queue.max_body + 1)
    with pytest.raises(BodyTooLarge, match=f"batch 1: found {queue.max_body + 1} bytes"):
        queue.publish(0, [b"small", huge])
    assert queue.position().published == 0


@pytest.mark.parametrize(
    ("published", "given"),
    [pytest.param(p, (p + 1) // 2, id=f"{p} published") for p in (0, 1, 2, 3, 4, 5, 10, 11)],
)
def test_until_sealed_batch_i_waits_until_more_than_twice_i_are_published(queue, published, given):
    queue.publish(0, [b"%d" % index for index in range(published)])
    taken = queue.receive(100, lease=60, wait=0)
    assert [d.index for d in taken] == list(range(given))
    queue.seal(published, published)
    assert [d.index for d in queue.receive(100, lease=60, wait=0)] == list(range(given, published))


def test_a_batch_once_given_out_comes_back_before_the_queue_is_sealed(queue, take):
    queue.publish(0, [b"a", b"b"])
    assert queue.release([take()]) == [True]
    assert take().index == 0


def test_publishing_goes_on_while_the_job_is_halted(queue):
    queue.halt("Cancelled", "by the user")
    queue.publish(0, [b"a"])
    queue.seal(1, 1)
    assert queue.state().counts.pending == 1
