"""When the operator's liveness probe fails: when it does not turn, or not watch; never for servers that are away."""

import asyncio
import json
import logging
import sys

import pytest
from batchyard_operator.__main__ import STUCK, unhealthy
from batchyard_operator.logs import JsonLines
from batchyard_operator.workqueue import Schedule


@pytest.mark.parametrize(
    ("longest", "overdue", "expected"),
    [
        pytest.param(0, 0, "", id="at rest"),
        pytest.param(STUCK - 1, STUCK - 1, "", id="busy"),
        pytest.param(STUCK + 1, 0, "a turn waits or runs since 181 s", id="a turn hangs"),
        pytest.param(0, STUCK + 1, "a watch tells nothing since 181 s", id="a watch hangs"),
    ],
)
def test_the_probe_says_what_is_wrong(longest: float, overdue: float, expected: str):
    assert unhealthy(longest, overdue) == expected


def test_a_turn_that_hangs_is_seen_and_one_that_fails_again_and_again_is_none():
    schedule: Schedule[str] = Schedule()
    now = 0.0
    for _ in range(50):  # servers are away: each turn fails at once, and waits for its next try
        schedule.add("failing", now)
        schedule.take(now)
        now += schedule.add_failed("failing", now)
        schedule.done("failing", now)
        assert schedule.longest_turn(now) == schedule.longest_wait(now) == 0
    schedule.add("hanging", now)
    schedule.take(now)
    assert schedule.longest_turn(now + 200) == 200


def test_a_log_entry_is_one_json_line_with_the_trace_of_a_bug(caplog: pytest.LogCaptureFixture):
    try:
        raise ZeroDivisionError("ours")
    except ZeroDivisionError:
        record = logging.LogRecord("batchyard", logging.ERROR, __file__, 1, "%s failed\n", ("a/b",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["level"], entry["message"]) == ("error", "a/b failed\n")
    assert "ZeroDivisionError: ours" in entry["trace"]


def test_a_cancelled_operator_leaves_no_turn_behind():
    from batchyard_operator.workqueue import WorkQueue

    ended: list[str] = []

    async def turn(key: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(key)

    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        running = asyncio.create_task(queue.run(2, turn))
        for _ in range(5):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert ended == ["a"]
