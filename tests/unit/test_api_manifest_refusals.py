"""Every wrong manifest gets one sentence a wrong field: line, field, found, expected, nearest."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from batchyard.api.manifest import InvalidManifest, load, parse

CASES = yaml.safe_load(Path(__file__).with_name("manifest_refusals.yaml").read_text(encoding="utf-8"))


def manifest(
    *,
    name: str = "digits",
    handler: str = "{type: tensorflow, models: {path: m}}",
    input: str = "{items: [1, 2]}",  # noqa: A002 - the field's name
    more: str = "",
) -> str:
    """The name is on line 3, the handler on 5, the input on 6, what is more from line 7."""
    return (
        "apiVersion: batchyard.dev/v1alpha1\n"
        "kind: BatchJob\n"
        f"metadata: {{name: {name}}}\n"
        "spec:\n"
        f"  handler: {handler}\n"
        f"  input: {input}\n"
        f"{textwrap.indent(more, '  ')}\n"
    )


def sentences(text: str, *sets: str) -> list[str]:
    with pytest.raises(InvalidManifest) as caught:
        parse(text, Path(), "job.yaml", sets)
    assert str(caught.value) == "\n".join(f"job.yaml: {p.sentence()}" for p in caught.value.problems)
    return [problem.sentence() for problem in caught.value.problems]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["case"]) for case in CASES])
def test_a_wrong_manifest_is_told_in_one_sentence_a_field(case: dict[str, Any]) -> None:
    parts = {name: text for name, text in case.items() if name not in ("case", "says", "text", "cluster")}
    assert sentences(case.get("text") or manifest(**parts)) == case["says"]


def test_every_problem_is_told_at_once_by_line() -> None:
    text = manifest(more="workers: 0\ntimeout: 1d\noutput: {pth: x}", name="A", handler="{type: tensorflow}")
    assert [s.split(": found")[0] for s in sentences(text)] == [
        "line 3: metadata.name",
        "line 5: spec.handler.models",
        "line 7: spec.workers",
        "line 8: spec.timeout",
        "line 9: spec.output.pth",
    ]


def test_items_beyond_what_the_api_server_takes_are_sent_to_a_file() -> None:
    text = manifest(input=f"{{items: [{', '.join(['xxxxxxx'] * 110_000)}]}}")
    [said] = sentences(text)
    assert said == (
        "line 6: spec.input.items: found 110000 items of 1,100,001 bytes as JSON, expected at most 1,048,576 bytes "
        "(write the items to a file, one JSON value a line, and name it in spec.input.delimitedFiles.paths)."
    )


def test_the_size_of_items_is_told_also_when_something_else_is_wrong() -> None:
    text = manifest(more="workers: 0", input=f"{{items: [{'x' * 1_100_000}]}}")
    assert [s.split(": found")[0] for s in sentences(text)] == ["line 6: spec.input.items", "line 7: spec.workers"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        pytest.param(
            "workers",
            "--set workers: found no '=', expected path=value, such as spec.workers=4.",
            id="no value",
        ),
        pytest.param(
            "spec..workers=1",
            "--set spec..workers=1: found the path 'spec..workers', expected a path such as spec.workers or "
            "spec.handler.models.paths[0].path.",
            id="a path with a gap",
        ),
        pytest.param(
            "spec.wrkers=4",
            "--set spec.wrkers=4: found an unknown field, expected a field of spec. Did you mean 'workers'?",
            id="a misspelt field",
        ),
        pytest.param(
            "workers=many",
            "--set workers=many: found 'many', expected a whole number from 1 to 10000.",
            id="a value of the wrong kind",
        ),
        pytest.param(
            "retry={maxAttempts: 0}",
            "--set retry={maxAttempts: 0}: spec.retry.maxAttempts: found the number 0, expected a whole number from "
            "1 to 100.",
            id="a wrong value inside an object",
        ),
        pytest.param(
            "output.key=id",
            "--set output.key=id: spec.output.path: found nothing, expected a local path or s3://bucket/prefix.",
            id="an object that is incomplete",
        ),
        pytest.param(
            "workers.count=1",
            "--set workers.count=1: found the number 3 at spec.workers, expected an object with count.",
            id="below a number",
        ),
        pytest.param(
            "handler[0]=1",
            "--set handler[0]=1: found an object with type and models at spec.handler, expected a list.",
            id="an index of an object",
        ),
        pytest.param(
            "input.items[3]=1",
            "--set input.items[3]=1: found the index 3 in spec.input.items, which has 2, expected an index from 0 to "
            "2 (the last one appends).",
            id="an index beyond the end",
        ),
        pytest.param(
            "workers={a: 1, a: 2}",
            "--set workers={a: 1, a: 2}: found a a second time (first on line 1), expected each field once.",
            id="a field twice",
        ),
    ],
)
def test_a_wrong_override_is_told_by_its_own_text(override: str, expected: str) -> None:
    assert sentences(manifest(more="workers: 3"), override)[0] == expected


def test_a_broken_override_value_is_told() -> None:
    [said] = sentences(manifest(), "workers=[1")
    assert said.startswith("--set workers=[1: found broken YAML (")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param("a: [1,\nb: 2\n", "line 3: column 1: found broken YAML (", id="an open bracket"),
        pytest.param("a: b: c\n", "line 1: column 5: found broken YAML (mapping values", id="two colons"),
        pytest.param("a:\n\tb: 1\n", "line 2: column 1: found a tab, expected spaces", id="a tab"),
        pytest.param("a: x\x01\n", "line 1: column 5: found the control character '\\x01'", id="a control character"),
        pytest.param("[" * 100_000 + "\n", "line 1: column 101: found nesting deeper than 100 levels", id="nesting"),
        pytest.param("a: *b\n", "line 1: column 4: found broken YAML (", id="an alias of nothing"),
    ],
)
def test_text_that_is_no_yaml_is_told_with_line_and_column(text: str, start: str) -> None:
    [said] = sentences(text)
    assert said.startswith(start)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            b"", "the file: found nothing but space and comments, expected a BatchJob manifest.", id="empty"
        ),
        pytest.param(
            b"a: 1\nb: \xff\n",
            "line 2: the file: found bytes that are not UTF-8 (0xff), expected UTF-8 text.",
            id="not UTF-8",
        ),
        pytest.param(
            b"#" * 9_000_000,
            "the file: found more than 8,388,608 bytes, expected a manifest of at most that (put items into a file, "
            "and name it in spec.input.delimitedFiles.paths).",
            id="huge",
        ),
    ],
)
def test_a_file_that_is_no_manifest_is_told(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidManifest) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {expected}"


def test_a_missing_file_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "batchjob.yaml").write_text("")
    with pytest.raises(InvalidManifest) as caught:
        load(tmp_path / "batchjb.yml")
    assert str(caught.value) == (
        f"{tmp_path / 'batchjb.yml'}: the file: found nothing at this path, expected a BatchJob manifest. "
        f"Did you mean {str(tmp_path / 'batchjob.yaml')!r}?"
    )
    assert caught.value.reason == "ManifestInvalid"


def test_a_folder_is_told_with_the_manifest_in_it(tmp_path: Path) -> None:
    (tmp_path / "batchjob.yaml").write_text("")
    with pytest.raises(InvalidManifest, match=r"found a folder, expected a BatchJob manifest\. Did .*job\.yaml"):
        load(tmp_path)
