"""What a status write sends, and when one may be sent."""

import pytest
from batchyard_operator.act.budget import Budget
from batchyard_operator.act.status import difference

NEVER = float("-inf")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({}, {"state": "Pending"}, {"state": "Pending"}, id="new"),
        pytest.param({"state": "Pending"}, {"state": "Pending"}, {}, id="nothing differs"),
        pytest.param({"rate": "2/s"}, {}, {"rate": None}, id="gone"),
        pytest.param(
            {"batches": {"a": 1, "b": 2}}, {"batches": {"a": 1, "b": 3}}, {"batches": {"b": 3}}, id="within"
        ),
        pytest.param({"batches": {"a": 1}}, {"batches": {}}, {"batches": {"a": None}}, id="gone within"),
        pytest.param({"failures": [1, 2]}, {"failures": [2]}, {"failures": [2]}, id="lists are whole"),
        pytest.param({"a": {"b": 1}}, {"a": 1}, {"a": 1}, id="another kind of value"),
    ],
)
def test_only_what_differs_is_sent(before, after, expected):
    assert difference(before, after) == expected


def test_a_job_writes_once_a_second_unless_it_is_urgent():
    budget = Budget(100, 0.0)
    assert budget.wait(10.0, NEVER, urgent=False) == 0
    assert budget.wait(10.25, 10.0, urgent=False) == 0.75
    assert budget.wait(10.25, 10.0, urgent=True) == 0
    assert budget.wait(11.0, 10.0, urgent=False) == 0


def test_all_jobs_share_a_bucket_with_a_reserve_for_what_is_urgent():
    budget = Budget(10, 0.0)
    plain = sum(budget.wait(0.0, NEVER, urgent=False) == 0 for _ in range(20))
    urgent = sum(budget.wait(0.0, NEVER, urgent=True) == 0 for _ in range(20))
    assert (plain, urgent) == (8, 2)


def test_an_empty_bucket_tells_when_to_ask_again():
    budget = Budget(10, 0.0)
    while budget.wait(0.0, NEVER, urgent=True) == 0:
        pass
    wait = budget.wait(0.0, NEVER, urgent=True)
    assert wait == pytest.approx(0.1)
    assert budget.wait(wait + 0.001, NEVER, urgent=True) == 0
    later = budget.wait(0.2, NEVER, urgent=False)
    assert budget.wait(0.2 + later + 0.001, NEVER, urgent=False) == 0


def test_the_rate_holds_over_time():
    budget, written = Budget(5, 0.0), 0
    for tick in range(10_000):
        written += budget.wait(tick / 100, NEVER, urgent=tick % 2 == 0) == 0
    assert 495 <= written <= 510


def test_a_budget_below_one_a_second_still_writes():
    budget = Budget(0.5, 0.0)
    assert budget.wait(0.0, NEVER, urgent=False) == 0
    assert budget.wait(0.0, NEVER, urgent=False) == pytest.approx(2.0)
    assert budget.wait(2.001, NEVER, urgent=False) == 0
