"""Whole jobs as they are rendered, in files to be read. UPDATE_GOLDEN=1 writes them anew; read the diff then."""

import json

import pytest
import yaml
from render_cases import CASES, GOLDEN, UPDATE, is_updating


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and texts of several lines as blocks."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


@pytest.mark.parametrize("name", list(CASES))
def test_a_job_is_rendered_as_its_golden_file_says(name: str) -> None:
    objects = CASES[name].objects()
    file = GOLDEN / f"{name}.yaml"
    if is_updating():
        text = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
        file.write_text(text, encoding="utf-8")
    assert objects == list(yaml.safe_load_all(file.read_text(encoding="utf-8"))), f"{UPDATE}=1 pytest {__file__}"


@pytest.mark.parametrize("name", list(CASES))
def test_what_is_rendered_twice_is_equal_and_shares_nothing(name: str) -> None:
    first, second = CASES[name].objects(), CASES[name].objects()
    before = json.dumps(second)
    for each in first:
        _spoil(each)
    assert json.dumps(second) == before
    assert json.dumps(CASES[name].objects()) == before


def _spoil(value: object) -> None:
    """Empty every dict and list."""
    if isinstance(value, dict):
        for inner in value.values():
            _spoil(inner)
        value.clear()
    elif isinstance(value, list):
        for inner in value:
            _spoil(inner)
        value.clear()


def test_no_golden_file_is_without_its_job() -> None:
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(CASES)
