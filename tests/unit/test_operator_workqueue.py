"""The operator's work queue: whose turn it is, as a table of times, and never two turns of a key at once."""

import asyncio
import logging
from collections.abc import Callable

import pytest
from batchyard.api.errors import TransientError
from batchyard_operator.workqueue import BACKOFF_MOST, Schedule, WorkQueue


@pytest.fixture
def schedule() -> Schedule[str]:
    return Schedule()


def taken(schedule: Schedule[str], now: float) -> list[str]:
    """Everything due, each turn over at once."""
    found = []
    while (key := schedule.take(now)) is not None:
        schedule.done(key, now)
        found.append(key)
    return found


def test_a_key_added_many_times_has_one_turn(schedule):
    for _ in range(5):
        schedule.add("a", 0)
    assert taken(schedule, 0) == ["a"]


def test_keys_come_in_the_order_they_were_added(schedule):
    for key in "cab":
        schedule.add(key, 0)
    assert taken(schedule, 0) == ["c", "a", "b"]


def test_a_key_in_its_turn_has_no_second_one_beside_it_but_one_after_it(schedule):
    schedule.add("a", 0)
    assert schedule.take(0) == "a"
    schedule.add("a", 0)
    schedule.add("a", 0)
    assert schedule.take(0) is None
    schedule.done("a", 0)
    assert taken(schedule, 0) == ["a"]


def test_urgent_keys_come_first_and_a_waiting_key_can_become_urgent(schedule):
    for key in "abc":
        schedule.add(key, 0)
    schedule.add("x", 0, urgent=True)
    schedule.add("c", 0, urgent=True)
    assert taken(schedule, 0)[:2] == ["x", "c"]


def test_a_key_that_becomes_urgent_in_its_turn_is_urgent_after_it(schedule):
    schedule.add("a", 0)
    schedule.take(0)
    schedule.add("a", 0, urgent=True)
    schedule.add("a", 0)
    schedule.add("b", 0)
    schedule.done("a", 0)
    assert taken(schedule, 0) == ["a", "b"]


def test_a_full_urgent_lane_leaves_some_turns_to_the_ordinary_one(schedule):
    for number in range(20):
        schedule.add(f"urgent-{number}", 0, urgent=True)
    schedule.add("ordinary", 0)
    assert taken(schedule, 0).index("ordinary") < 5


@pytest.mark.parametrize(
    ("times", "now", "expected"),
    [
        pytest.param([5.0], 4.9, [], id="not before its time"),
        pytest.param([5.0], 5.0, ["a"], id="at its time"),
        pytest.param([9.0, 5.0], 5.0, ["a"], id="the earliest of two wins"),
        pytest.param([5.0, 9.0], 10.0, ["a"], id="the later one is no second turn"),
    ],
)
def test_a_key_has_its_turn_at_the_earliest_time(schedule, times, now, expected):
    for due in times:
        schedule.add_at("a", due)
    assert taken(schedule, now) == expected
    assert taken(schedule, 100.0) == ([] if expected else ["a"])


def test_a_turn_forgets_the_time_that_stood_before_and_keeps_the_one_set_meanwhile(schedule):
    schedule.add_at("a", 5.0)
    schedule.add("a", 0)
    assert schedule.take(0) == "a"
    assert schedule.next_time() is None
    schedule.add_at("a", 7.0)
    schedule.done("a", 1.0)
    assert schedule.next_time() == 7.0


def test_a_time_that_comes_during_a_turn_means_one_turn_after_it(schedule):
    schedule.add("a", 0)
    schedule.take(0)
    schedule.add_at("a", 1.0)
    assert schedule.take(2.0) is None
    schedule.done("a", 2.0)
    assert taken(schedule, 2.0) == ["a"]


def test_failures_double_the_wait_up_to_a_limit_and_a_success_forgets_them(schedule):
    waits = []
    for _ in range(12):
        schedule.add("a", 0)
        schedule.take(0)
        waits.append(schedule.add_failed("a", 0))
        schedule.done("a", 0)
    assert waits[:3] == [waits[0], waits[0] * 2, waits[0] * 4]
    assert waits[-1] == BACKOFF_MOST
    schedule.succeeded("a")
    assert schedule.add_failed("a", 0) == waits[0]


def test_a_key_that_failed_has_its_turn_at_once_when_something_happens(schedule):
    schedule.add_failed("a", 0)
    schedule.add("a", 0.1)
    assert taken(schedule, 0.1) == ["a"]
    assert schedule.next_time() is None


def test_a_forgotten_key_is_not_looked_at_again(schedule):
    schedule.add_at("a", 1.0)
    schedule.forget("a")
    assert schedule.next_time() is None
    assert taken(schedule, 2.0) == []


def test_times_that_move_again_and_again_use_no_more_memory(schedule):
    for number in range(10_000):
        schedule.add_at("a", 1e6 - number)
    assert len(schedule._heap) < 200
    assert taken(schedule, 1e6) == ["a"]


def test_the_longest_wait_and_the_longest_turn_are_told(schedule):
    schedule.add("a", 1.0)
    schedule.add("b", 2.0)
    assert schedule.longest_wait(5.0) == 4.0
    schedule.take(5.0)
    assert schedule.longest_wait(5.0) == 0.0  # a turn has just begun: the next one comes
    assert schedule.longest_wait(9.0) == 4.0
    assert schedule.longest_turn(9.0) == 4.0


def test_keys_that_wait_long_because_each_turn_is_slow_are_not_forgotten(schedule):
    for number in range(1000):
        schedule.add(f"{number}", 0.0)
    for turn in range(100):
        now = turn * 10.0
        key = schedule.take(now)
        schedule.done(key, now + 10.0)
        assert schedule.longest_wait(now + 10.0) == 10.0


# --- the loop around it ---
def run(work: Callable[[WorkQueue[str]], object], turn, workers: int = 3) -> None:
    """Run a queue with ``turn``; ``work`` adds keys before it starts; the turn stops it."""

    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        work(queue)
        async with asyncio.timeout(30):
            await queue.run(workers, lambda key: turn(queue, key))

    asyncio.run(main())


def test_turns_of_different_keys_overlap_up_to_the_number_of_workers():
    under_way, most = set(), 0
    gate: list[asyncio.Event] = []

    async def turn(queue: WorkQueue[str], key: str) -> None:
        nonlocal most
        gate.append(gate[0] if gate else asyncio.Event())
        under_way.add(key)
        most = max(most, len(under_way))
        if len(under_way) == 3:
            gate[0].set()
        await gate[0].wait()
        under_way.discard(key)
        if key == "f":
            queue.stop()

    run(lambda queue: [queue.add(key) for key in "abcdef"], turn)
    assert most == 3


def test_a_key_never_has_two_turns_at_once_however_often_it_is_added():
    under_way, turns = 0, 0

    async def turn(queue: WorkQueue[str], key: str) -> None:
        nonlocal under_way, turns
        assert under_way == 0
        under_way += 1
        turns += 1
        queue.add(key)
        for _ in range(5):
            await asyncio.sleep(0)
        under_way -= 1
        if turns == 20:
            queue.stop()

    run(lambda queue: queue.add("a"), turn)
    assert turns == 20


def test_what_a_turn_returns_is_when_it_comes_again():
    turns = []

    async def turn(queue: WorkQueue[str], key: str) -> float | None:
        turns.append(key)
        if len(turns) == 3:
            queue.stop()
        return 0.0

    run(lambda queue: queue.add("a"), turn)
    assert turns == ["a"] * 3


def test_stopping_waits_for_the_turns_under_way_and_begins_none():
    ended = []

    async def turn(queue: WorkQueue[str], key: str) -> None:
        queue.stop()
        for _ in range(10):
            await asyncio.sleep(0)
        ended.append(key)

    run(lambda queue: [queue.add(key) for key in "ab"], turn, workers=1)
    assert ended == ["a"]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        pytest.param(TransientError("the API server is away"), False, id="a fault that passes is one line"),
        pytest.param(ZeroDivisionError("ours"), True, id="a bug of ours comes with its trace"),
    ],
)
def test_a_turn_that_fails_is_repeated_and_stops_no_other(error, shown, caplog):
    turns = []

    async def turn(queue: WorkQueue[str], key: str) -> None:
        turns.append(key)
        if key == "a" and turns.count("a") == 1:
            queue.add("a")  # something happens, so that the test needn't wait
            raise error
        if key == "a":
            queue.stop()

    with caplog.at_level(logging.WARNING):
        run(lambda queue: [queue.add("a"), queue.add("b")], turn, workers=1)
    assert turns == ["a", "b", "a"]
    (record,) = caplog.records
    assert bool(record.exc_info) is shown
    assert str(error) in caplog.text
