"""Says at the end of a run what did not run, why, and how to get it: a skip that nobody sees is no test at all.

Hooks for a conftest to import. Reasons are written "why: how to get it" where the tests skip.
"""

from collections import Counter
from collections.abc import Sequence

import pytest

_LEFT_OUT = pytest.StashKey[int]()
E2E = "the end-to-end tests need a cluster, and run by themselves: make cluster-up e2e"


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count the end-to-end tests that the marker left out; what a person left out by hand is no news to them."""
    left_out = sum(1 for item in items if item.get_closest_marker("e2e"))
    if left_out:
        config = items[0].config
        config.stash[_LEFT_OUT] = config.stash.get(_LEFT_OUT, 0) + left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one line a reason, the most frequent first."""
    tests: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for report in terminalreporter.getreports("skipped"):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        (tests if "::" in report.nodeid else files)[reason.removeprefix("Skipped: ")] += 1
    if "not e2e" in (config.option.markexpr or "") and config.stash.get(_LEFT_OUT, 0):
        tests[E2E] += config.stash[_LEFT_OUT]
    if not tests and not files:
        return
    terminalreporter.section(f"not run: {_named(tests.total(), 'test', files.total())}")
    for counted, word in ((tests, "test"), (files, "file")):
        for reason, count in counted.most_common():
            terminalreporter.write_line(f"{_named(count, word):>12}  {reason}")


def _named(count: int, word: str, files: int = 0) -> str:
    said = [f"{count} {word}{'' if count == 1 else 's'}"] if count or not files else []
    return " and ".join([*said, *([_named(files, "whole file")] if files else [])])
