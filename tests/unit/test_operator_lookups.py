"""When the operator asks for Events: soon, then ever more seldom: each answer costs a namespace's Events."""

import asyncio
from collections.abc import Mapping
from typing import Any

from batchyard_operator.model import ChildSeen
from batchyard_operator.observe.caches import ChildKept
from batchyard_operator.observe.lookups import look_up
from batchyard_operator.observe.memory import Memory


def child(*, suspended: bool = False) -> ChildKept:
    seen = ChildSeen(
        name="digits-workers",
        uid="c1",
        created=0.0,
        parallelism=2,
        suspended=suspended,
        active=0,
        ready=0,
        complete=False,
        failed=False,
    )
    return ChildKept(version=1, owner="u1", seen=seen, completions=2, applied_with="")


class Asked:
    """An API server's Events, and when they were asked for."""

    def __init__(self) -> None:
        self.memory = Memory("u1")
        self.now = 0.0
        self.times: list[float] = []

    async def get(self, _path: str, _query: Mapping[str, str]) -> dict[str, Any]:
        self.times.append(self.now)
        return {"items": [{"metadata": {}, "message": "exceeded quota"}]}

    def look(self, until: float, *, suspended: bool = False) -> None:
        """Look each second."""
        while self.now < until:
            kept = child(suspended=suspended)
            asyncio.run(look_up(self.get, "default", self.now, self.memory, (kept, None), []))
            self.now += 1.0


def test_a_job_that_waits_for_long_is_asked_about_ever_more_seldom():
    asked = Asked()
    asked.look(until=1300.0)
    assert asked.times == [10.0, 25.0, 55.0, 115.0, 235.0, 475.0, 715.0, 955.0, 1195.0]
    assert asked.memory.refusals == ("exceeded quota",)


def test_a_cause_that_went_away_is_forgotten_and_the_next_one_asked_for_soon():
    asked = Asked()
    asked.look(until=300.0)
    asked.look(until=310.0, suspended=True)
    assert asked.memory.refusals == ()
    asked.times.clear()
    asked.look(until=350.0)
    assert asked.times == [310.0, 325.0]
