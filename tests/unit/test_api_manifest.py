"""Manifests as users write them, and what becomes of them."""

import json
import math
from pathlib import Path

import pytest
import yaml
from batchyard.api.manifest import load, parse

TEXT = """\
apiVersion: batchyard.dev/v1alpha1
kind: BatchJob
metadata: {name: digits}
spec:
  handler:
    type: tensorflow
    models: {path: models/digits}
  input: {items: [1, 2]}
"""


def items(text: str) -> list[object]:
    job = parse(TEXT.replace("[1, 2]", text), Path()).job
    assert job.spec.input.items is not None
    return job.spec.input.items


def test_a_file_is_read_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(TEXT)
    manifest = load(tmp_path / "job.yaml")
    assert manifest.job.metadata.name == "digits"
    assert manifest.folder == tmp_path
    assert manifest.text == TEXT
    assert load(str(tmp_path / "job.yaml")).job == manifest.job


def test_a_text_is_read_with_the_current_folder() -> None:
    assert load(TEXT).folder == Path.cwd()


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert load(tmp_path / "job.yaml").job == load(TEXT).job


def test_defaults_are_those_of_the_reference() -> None:
    spec = parse(TEXT, Path()).job.spec
    assert (spec.workers, spec.input.batch_size, spec.suspend) == (1, 1, False)
    assert (spec.handler.tensorflow_version, spec.handler.processes, spec.handler.threads) == ("2.3.0", 1, 1)
    backoff = spec.retry.backoff
    assert (spec.retry.max_attempts, backoff.initial.seconds, backoff.max.seconds) == (3, 1.0, 300.0)
    assert (spec.output, spec.timeout, spec.batch_timeout, spec.error_threshold, spec.pod) == (None,) * 5


def test_null_is_a_field_left_out_but_stays_in_free_values() -> None:
    text = TEXT + "  workers:\n  output: null\n  pod: ~\n"
    job = parse(text.replace("models:", "config: {a: null}\n    models:").replace("[1, 2]", "[null]"), Path()).job
    assert (job.spec.workers, job.spec.output, job.spec.pod) == (1, None, None)
    assert job.spec.handler.config == {"a": None}
    assert job.spec.input.items == [None]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        pytest.param("yes", "yes", id="yes is a word"),
        pytest.param("on", "on", id="on is a word"),
        pytest.param("NO", "NO", id="Norway is a word"),
        pytest.param("2020-01-31", "2020-01-31", id="a date is a string"),
        pytest.param("2020-01-31T10:00:00Z", "2020-01-31T10:00:00Z", id="a time is a string"),
        pytest.param("12:30:45", "12:30:45", id="no base 60"),
        pytest.param("1_000", "1_000", id="no underscores in numbers"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("0o17", 15, id="octal"),
        pytest.param("017", 17, id="a leading zero"),
        pytest.param("-1e3", -1000.0, id="an exponent without a dot"),
        pytest.param(".5", 0.5, id="a dot first"),
        pytest.param("TRUE", True, id="a boolean"),
        pytest.param("'true'", "true", id="a quoted boolean"),
        pytest.param("!!str 12", "12", id="a tag of the core schema"),
        pytest.param("!!float 1", 1.0, id="an integer tagged as float"),
        pytest.param("~", None, id="null"),
        pytest.param("-.inf", -math.inf, id="infinity"),
        pytest.param("{1: a, true: b}", {"1": "a", "true": "b"}, id="names are strings"),
        pytest.param("<<", "<<", id="a merge sign as a value"),
        pytest.param('"\\u00e9\\U0001F600"', "é😀", id="unicode"),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    [found] = items(f"[{written}]")
    assert found == value
    assert type(found) is type(value)


def test_nan_is_an_item() -> None:
    [found] = items("[.nan]")
    assert isinstance(found, float)
    assert math.isnan(found)


def test_aliases_are_copies_and_merges_let_the_object_win() -> None:
    first, second, third = items("[&a {x: 1, y: [1]}, *a, {<<: *a, x: 2}]")
    assert first == second
    assert first is not second
    assert third == {"x": 2, "y": [1]}


def test_other_documents_are_named_and_left_alone() -> None:
    manifest = parse(f"---\nkind: ConfigMap\nmetadata: {{name: files}}\n---\n{TEXT}---\n", Path())
    assert manifest.job.metadata.name == "digits"
    assert manifest.ignored == ("ConfigMap files, line 2",)


def test_json_is_a_manifest() -> None:
    text = (
        '{"apiVersion": "batchyard.dev/v1alpha1", "kind": "BatchJob", "metadata": {"name": "digits"},\n'
        '"spec": {"handler": {"type": "tensorflow", "models": {"path": "models/digits"}},\n'
        '"input": {"items": [1, 2]}}}'
    )
    assert parse(text, Path()).job == parse(TEXT, Path()).job


@pytest.mark.parametrize("written", ["😀", "a\\", "\\ud83d", '"', "\\\\😀"])
def test_json_as_python_writes_it_keeps_every_character(written: str) -> None:
    raw = yaml.safe_load(TEXT)
    raw["spec"]["input"]["items"] = [written]
    assert parse(json.dumps(raw), Path()).job.spec.input.items == [written]
    assert parse(TEXT, Path(), sets=[f"input.items={json.dumps([written])}"]).job.spec.input.items == [written]


def test_overrides_win_over_the_file_in_their_order() -> None:
    sets = [
        "spec.workers=4",
        "workers=5",
        "input.items[0]=7",
        "input.items[2]=8",
        "metadata.labels.a\\.b/c=x",
        "input.batchSize=2",
    ]
    job = parse(TEXT, Path(), sets=sets).job
    assert job.spec.workers == 5
    assert job.spec.input.items == [7, 2, 8]
    assert job.spec.input.batch_size == 2
    assert job.metadata.labels == {"a.b/c": "x"}


def test_overrides_make_the_objects_on_their_way() -> None:
    sets = [
        "handler.models.path=",
        "handler.models.paths[0].name=a",
        "handler.models.paths[0].path=x=y",
        "output.path=o",
    ]
    spec = parse(TEXT, Path(), sets=sets).job.spec
    assert spec.handler.models is not None
    assert [(m.name, m.path) for m in spec.handler.models.named] == [("a", "x=y")]
    assert spec.output is not None


def test_an_override_can_make_a_wrong_file_right() -> None:
    assert parse(TEXT + "  workers: x\n", Path(), sets=["workers=2"]).job.spec.workers == 2


@pytest.mark.parametrize(
    ("text", "sets", "same"),
    [
        pytest.param(f"# a comment\n{TEXT}", [], True, id="a comment"),
        pytest.param(TEXT.replace("[1, 2]}", "[1, 2], batchSize: 1}"), [], True, id="a default written out"),
        pytest.param(TEXT, ["workers=9", "timeout=1h"], True, id="what may change"),
        pytest.param(TEXT, ["input.batchSize=2"], False, id="another batch size"),
        pytest.param(TEXT, ["input.items[0]=.nan"], False, id="another item"),
        pytest.param(TEXT, ["metadata.name=b"], False, id="another name"),
    ],
)
def test_the_digest_tells_whether_it_is_the_same_job(text: str, sets: list[str], same: bool) -> None:
    assert (parse(text, Path(), sets=sets).digest == parse(TEXT, Path()).digest) is same


def test_the_digest_of_items_that_are_not_numbers_is_stable() -> None:
    text = TEXT.replace("[1, 2]", "[.nan, é]")
    assert parse(text, Path()).digest == parse(text, Path()).digest
