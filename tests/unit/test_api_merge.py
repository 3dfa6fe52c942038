"""Deep merge: objects merge, everything else is replaced, nothing is shared."""

import copy
from typing import Any

import pytest
from batchyard.api.merge import deep_merge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LEAVES = st.sampled_from([None, True, 0, 1.5, "", "x"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)
CONFIGS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no failure


@pytest.mark.parametrize(
    ("base", "override", "merged"),
    [
        pytest.param({"a": 1}, {"b": 2}, {"a": 1, "b": 2}, id="both are kept"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}, id="objects merge"),
        pytest.param({"a": [1, 2, 3]}, {"a": [4]}, {"a": [4]}, id="lists are replaced"),
        pytest.param({"a": {"b": 1}}, {"a": None}, {"a": None}, id="None replaces an object"),
        pytest.param({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="an object replaces None"),
        pytest.param({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}, id="an empty object changes nothing"),
        pytest.param({"a": {"b": 1}}, {"a": 5}, {"a": 5}, id="a number replaces an object"),
    ],
)
def test_the_override_wins(base: dict[str, Any], override: dict[str, Any], merged: dict[str, Any]) -> None:
    assert deep_merge(base, override) == merged


@unhurried
@given(CONFIGS)
def test_an_empty_side_changes_nothing(config: dict[str, Any]) -> None:
    assert deep_merge(config, {}) == deep_merge({}, config) == deep_merge(config, config) == config


@unhurried
@given(CONFIGS, CONFIGS, CONFIGS)
def test_applying_an_override_twice_is_applying_it_once(
    base: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    merged = deep_merge(base, first)
    assert deep_merge(merged, first) == merged
    assert set(deep_merge(merged, second)) == set(base) | set(first) | set(second)


@unhurried
@given(CONFIGS, CONFIGS)
def test_nothing_is_shared_with_either_side(base: dict[str, Any], override: dict[str, Any]) -> None:
    before = copy.deepcopy((base, override))
    _spoil(deep_merge(base, override))
    assert (base, override) == before


def _spoil(value: Any) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            _spoil(inner)
        value["spoilt"] = True
    elif isinstance(value, list):
        for inner in value:
            _spoil(inner)
        value.append("spoilt")
