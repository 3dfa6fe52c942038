"""The CustomResourceDefinition is what the models say, and nothing an API server refuses to take as a schema."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from batchyard.api import crd, crd_rules, words
from batchyard.api.scalars import Matches, Place, PositiveDuration, PythonFile, is_inside
from batchyard.api.spec import MUTABLE, Spec
from batchyard.api.status import Status
from batchyard.api.strict import Strict, fields
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

FILE = Path(__file__).parents[2] / "crds" / "batchjobs.batchyard.dev.yaml"
VERSION = crd.definition()["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]


def models(model: type[BaseModel], schema: dict[str, Any]) -> Iterator[tuple[type[BaseModel], dict[str, Any]]]:
    """Every model with the schema made of it."""
    yield model, schema
    for alias, name in fields(model).items():
        place = words.place_of(model.model_fields[name])
        if (below := place.below().model) is not None:
            inner = schema["properties"][alias]
            yield from models(below, inner if place.model is not None else inner["items"])


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema that describes a value, with its path; not those inside of allOf, oneOf and not."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name], f"{path}[]")


EVERY_MODEL = [*models(Spec, ROOT["properties"]["spec"]), *models(Status, ROOT["properties"]["status"])]


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == crd.render(), "run `make crds`"


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    out = tmp_path / "new" / "crd.yaml"
    subprocess.run([sys.executable, "-m", "batchyard.api.crd", str(out)], check=True)
    assert yaml.safe_load(out.read_text(encoding="utf-8")) == crd.definition()


@pytest.mark.parametrize(("model", "schema"), [pytest.param(m, s, id=m.__name__) for m, s in EVERY_MODEL])
def test_every_field_of_a_model_is_in_the_schema(model: type[BaseModel], schema: dict[str, Any]) -> None:
    assert set(schema["properties"]) == set(fields(model))
    required = [alias for alias, name in fields(model).items() if model.model_fields[name].is_required()]
    assert schema.get("required", []) == required
    for alias, name in fields(model).items():
        assert schema["properties"][alias]["description"] == model.model_fields[name].description


@pytest.mark.parametrize(("model", "schema"), [pytest.param(m, s, id=m.__name__) for m, s in EVERY_MODEL])
def test_defaults_are_those_of_the_models(model: type[BaseModel], schema: dict[str, Any]) -> None:
    for alias, name in fields(model).items():
        field = model.model_fields[name]
        if "default" not in schema["properties"][alias]:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            assert default in (None, "", [], {}), alias
            continue
        default = field.get_default(call_default_factory=True)
        written = schema["properties"][alias]["default"]
        assert default == (type(default).model_validate(written) if isinstance(default, BaseModel) else written), (
            alias
        )


@pytest.mark.parametrize(("path", "schema"), [pytest.param(p, s, id=p) for p, s in nodes(ROOT, "root")])
def test_every_node_is_structural(path: str, schema: dict[str, Any]) -> None:
    free = schema.get("x-kubernetes-preserve-unknown-fields", False)
    assert schema.get("type") in (
        {"object", "array", "string", "integer", "number", "boolean"} | ({None} if free else set())
    )
    assert not {"$ref", "$defs", "anyOf", "title", "const", "exclusiveMinimum", "uniqueItems"} & set(schema)
    assert schema.get("additionalProperties") is not False
    assert not {"properties", "additionalProperties"} <= set(schema)


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, id=m.__name__) for m, _ in EVERY_MODEL if "rules" in vars(m)],
)
def test_a_model_with_rules_of_its_own_has_them_in_the_schema_or_says_why_not(model: type[Strict]) -> None:
    assert model in crd_rules.RULES


@pytest.mark.parametrize(
    ("model", "schema"), [pytest.param(m, s, id=m.__name__) for m, s in EVERY_MODEL if getattr(m, "exactly_one", ())]
)
def test_exactly_one_of_several_fields_is_a_rule(model: type[Strict], schema: dict[str, Any]) -> None:
    if "oneOf" in schema:
        assert schema["oneOf"] == [{"required": [name]} for name in model.exactly_one]
    else:
        rule = schema["x-kubernetes-validations"][0]["rule"]
        assert all(f"has(self.{name})" in rule for name in model.exactly_one)


def test_all_but_the_mutable_fields_of_the_spec_are_immutable() -> None:
    rules = ROOT["properties"]["spec"]["x-kubernetes-validations"]
    held = {rule["fieldPath"][1:] for rule in rules if "oldSelf" in rule["rule"]}
    assert held == set(fields(Spec)) - set(MUTABLE)


def test_columns_and_the_scale_read_fields_that_exist() -> None:
    columns = VERSION["additionalPrinterColumns"]
    assert [c["name"] for c in columns if c["priority"] == 0] == ["State", "Progress", "Failed", "Workers", "Age"]
    assert [c["name"] for c in columns if c["priority"] == 1] == ["Rate", "ETA", "Reason"]
    paths = [c["jsonPath"] for c in columns] + list(VERSION["subresources"]["scale"].values())
    for path in paths:
        schema = ROOT
        for part in path[1:].split("."):
            if part == "metadata":
                break
            schema = schema["properties"][part]


def matches(annotation: Any, text: str) -> bool:
    """Whether the patterns that the API server gets accept a text; Rust's syntax is RE2's."""
    patterns = [p for c in words.unwrap(annotation).constraints if isinstance(c, Matches) for p in c.patterns]
    assert patterns
    try:
        for pattern in patterns:
            TypeAdapter(Annotated[str, Field(pattern=pattern)]).validate_python(text)
    except ValidationError:
        return False
    return True


def accepts(annotation: Any, text: str) -> bool:
    try:
        TypeAdapter(annotation).validate_python(text)
    except ValidationError:
        return False
    return True


@given(st.one_of(st.text("s3:/ .a\u3000\n\x1c", max_size=9), st.text(max_size=4)))
@example("s3://")
@example("s3:///")
@example("s3:///a")
@example("a:/:/b")
@example("a:://b")
@example("a:///")
@example(":")
@example("a:/")
@example("\x0b\x1f\x85\u2028")
def test_a_place_is_the_same_to_the_api_server(text: str) -> None:
    assert matches(Place, text) == accepts(Place, text)


@given(st.text("./\\ap\n", max_size=7).map(lambda text: f"{text}.py"))
@example("handler.py")
@example("a/../b.py")
@example("../b.py")
@example(".../..a/.b/./c.py")
@example("a//b.py")
@example("/a.py")
@example("a.txt")
@example("..py")
def test_a_handlers_file_is_the_same_to_the_api_server(text: str) -> None:
    assert matches(PythonFile, text) == accepts(PythonFile, text)
    assert not accepts(PythonFile, text) or is_inside(text)


@pytest.mark.parametrize("text", ["0s", "0.0h0ms", "1s", "0.001ms", "0h10m"])
def test_a_duration_above_zero_is_the_same_to_the_api_server(text: str) -> None:
    assert matches(PositiveDuration, text) == accepts(PositiveDuration, text)
