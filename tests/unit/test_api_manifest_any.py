"""Whatever stands in a manifest: it is a job, or its problems are told. Nothing else comes out."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from batchyard.api.errors import Problem
from batchyard.api.manifest import InvalidManifest, parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FULL: dict[str, Any] = {
    "apiVersion": "batchyard.dev/v1alpha1",
    "kind": "BatchJob",
    "metadata": {"name": "digits", "labels": {"a": "b"}, "uid": "u"},
    "spec": {
        "handler": {
            "type": "tensorflow",
            "path": "h.py",
            "project": {"inline": {"h.py": ""}},
            "config": {"a": 1},
            "models": {"paths": [{"name": "a", "path": "m"}, {"name": "b", "path": "n"}]},
            "env": [{"name": "A", "value": "x"}, {"name": "B", "valueFrom": {}}],
            "dependencies": {"pip": ["a"]},
            "resources": {"limits": {"cpu": 1}},
        },
        "input": {"delimitedFiles": {"paths": ["a"], "includes": ["*"]}, "batchSize": 2},
        "output": {"path": "o", "key": "id"},
        "retry": {"maxAttempts": 2, "backoff": {"initial": "1s", "max": "2s"}},
        "errorThreshold": {"percent": 5},
        "timeout": "1h",
        "pod": {"tolerations": [{"key": "a"}]},
    },
}

ANYTHING = st.recursive(
    st.sampled_from([None, True, 0, -1, 1.5, 10**30, "", "x", "1s", "name", "../a", "\u2028", "s3://"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "path", "x", ""]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for part, inner in below for place in places(inner, (*path, part)))]


def told(text: str, *sets: str) -> list[Problem]:
    """Return the problems of a manifest, none when it is right; a refusal without a problem fails."""
    try:
        parse(text, Path(), sets=sets)
    except InvalidManifest as error:
        return error.problems or pytest.fail("refused without a word")
    return []


def test_the_whole_manifest_is_right() -> None:
    assert parse(json.dumps(FULL), Path()).job.spec.timeout == "1h"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(st.sampled_from([p for p in places(FULL) if p]), ANYTHING, st.sampled_from(["", "x"]))
def test_any_value_anywhere_is_taken_or_told(place: tuple[Any, ...], value: Any, suffix: str) -> None:
    data = copy.deepcopy(FULL)
    at: Any = data
    for part in place[:-1]:
        at = at[part]
    at[f"{place[-1]}{suffix}" if isinstance(place[-1], str) else place[-1]] = value
    problems = told(json.dumps(data, indent=1))
    assert all(problem.line for problem in problems)
    assert len({problem.where for problem in problems}) == len(problems)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(st.text("ab:-[]{}&*!<>|'\"#%@,?\n\t \\0~", max_size=40), st.text("ab.[]\\=0{:", max_size=12))
def test_any_text_and_any_override_is_taken_or_told(text: str, override: str) -> None:
    told(text)
    told(json.dumps(FULL), override)
