"""The models: what every one of them keeps to, and what they tell beyond their fields."""

import copy
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from batchyard.api import words
from batchyard.api.scalars import Duration, seconds_of
from batchyard.api.spec import MUTABLE, BatchJob, Handler, Models, Project, Spec
from batchyard.api.status import Condition, Reason, State, Status
from batchyard.api.strict import Strict, fields
from pydantic import BaseModel, ValidationError


def models(model: type[BaseModel] = BatchJob) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        below = words.place_of(field).below().model
        if below is not None:
            yield from models(below)


ALL = sorted(set(models()), key=lambda model: model.__name__)


def job(**spec: Any) -> dict[str, Any]:
    handler = {"type": "tensorflow", "models": {"path": "m"}}
    return {
        "apiVersion": "batchyard.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": "a"},
        "spec": {"handler": handler, "input": {"items": []}, **spec},
    }


@pytest.mark.parametrize("model", [pytest.param(model, id=model.__name__) for model in ALL])
def test_every_object_is_told_strict_and_frozen(model: type[BaseModel]) -> None:
    assert issubclass(model, Strict)
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.description.endswith((".", "`.", "?")), name
        assert field.alias, name


def test_the_tree_holds_every_object_of_the_design() -> None:
    assert {"Handler", "ModelEntry", "Project", "EnvVar", "Backoff", "FileSet", "Pod", "Condition"} <= {
        model.__name__ for model in ALL
    }


def test_the_fields_that_may_change_are_fields() -> None:
    assert set(MUTABLE) <= set(fields(Spec))


def test_models_cannot_be_changed() -> None:
    made = BatchJob.model_validate(job())
    with pytest.raises(ValidationError, match="frozen"):
        made.spec.workers = 2  # type: ignore[misc]


def test_python_names_are_not_taken_in_manifests() -> None:
    with pytest.raises(ValidationError, match="error_threshold"):
        BatchJob.model_validate(job(error_threshold={"batches": 1}))


def test_a_model_refuses_broken_rules_without_a_manifest_too() -> None:
    with pytest.raises(ValidationError, match="found batches and percent, expected exactly one"):
        BatchJob.model_validate(job(errorThreshold={"batches": 1, "percent": 1}))


def test_a_job_read_back_from_kubernetes_is_taken() -> None:
    raw = job()
    raw["metadata"] |= {
        "uid": "u",
        "resourceVersion": "12",
        "generation": 1,
        "creationTimestamp": "2025-01-31T12:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [],
        "finalizers": ["batchyard.dev/queue"],
    }
    raw["status"] = {
        "state": "Running",
        "startTime": "2025-01-31T12:00:00Z",
        "batches": {"succeeded": 1},
        "conditions": [
            {"type": "Enqueued", "status": "True", "reason": "Sealed", "lastTransitionTime": "2025-01-31T12:00:00Z"}
        ],
    }
    status = BatchJob.model_validate(raw).status
    assert status is not None
    assert status.state is State.RUNNING
    assert status.start_time is not None
    assert status.start_time.isoformat() == "2025-01-31T12:00:00+00:00"


def test_a_job_written_out_is_the_same_job() -> None:
    raw = job(timeout="1h30m", handler={"type": "python", "path": "h.py", "resources": {"limits": {"cpu": 0.5}}})
    made = BatchJob.model_validate(raw)
    written = made.model_dump_json(by_alias=True, exclude_none=True)
    assert BatchJob.model_validate(json.loads(written)) == made
    assert '"cpu":"0.5"' in written
    assert '"timeout":"1h30m"' in written


def test_nan_survives_writing() -> None:
    made = BatchJob.model_validate(job(input={"items": [float("nan")]}))
    assert '"items":[NaN]' in made.model_dump_json(by_alias=True)


def test_the_schema_tells_patterns_and_descriptions() -> None:
    schema = BatchJob.model_json_schema(by_alias=True)
    timeout = schema["$defs"]["Spec"]["properties"]["batchTimeout"]
    assert timeout["anyOf"][0] == {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"}
    assert timeout["description"]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        pytest.param({"path": "models/digits"}, [("digits", None)], id="the folder's own name"),
        pytest.param({"path": "models/digits/", "signatureKey": "s"}, [("digits", "s")], id="a slash at the end"),
        pytest.param({"path": "s3://bucket/a/my model"}, [("my-model", None)], id="a prefix with a space"),
        pytest.param({"path": "s3://bucket"}, [("model", None)], id="a bucket"),
        pytest.param({"path": ".."}, [("model", None)], id="a folder without a name"),
        pytest.param(
            {
                "paths": [{"name": "a", "path": "x"}, {"name": "b", "path": "y", "signatureKey": "t"}],
                "signatureKey": "s",
            },
            [("a", "s"), ("b", "t")],
            id="an own signature wins",
        ),
        pytest.param({"dir": "models"}, [], id="a folder of models is listed later"),
    ],
)
def test_models_are_named(source: dict[str, Any], named: list[tuple[str, str | None]]) -> None:
    made = Models.model_validate(source)
    assert [(model.name, model.signature_key) for model in made.named] == named
    assert made.kind in source


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({"configMap": "files"}, id="config map"),
        pytest.param({"s3": "s3://bucket/project.zip"}, id="object storage"),
        pytest.param({"image": "/app"}, id="image"),
        pytest.param({"inline": {"src/h.py": ""}}, id="inline"),
    ],
)
def test_a_project_tells_its_kind(source: dict[str, Any]) -> None:
    assert Project.model_validate(source).kind == next(iter(source))


@pytest.mark.parametrize("kind", ["items", "files", "delimitedFiles"])
def test_an_input_tells_its_kind(kind: str) -> None:
    value = [1] if kind == "items" else {"paths": ["a"]}
    assert BatchJob.model_validate(job(input={kind: value})).spec.input.kind == kind


def test_dependencies_are_a_file_or_a_list() -> None:
    for pip in ("requirements.txt", ["pillow==11.0"]):
        made = Handler.model_validate({"type": "python", "path": "h.py", "dependencies": {"pip": pip}})
        assert made.dependencies is not None
        assert made.dependencies.pip == pip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("1s", 1.0),
        ("1.5m", 90.0),
        ("1h30m", 5400.0),
        ("1m1s1ms", 61.001),
        ("0s", 0.0),
        ("8760h", 31536000.0),
    ],
)
def test_durations_have_seconds(text: str, seconds: float) -> None:
    assert Duration(text).seconds == pytest.approx(seconds)
    assert Duration(text) == text


@pytest.mark.parametrize(
    "text", ["", "1", "s", "-1s", "1 s", "1d", "1S", "1s ", "1e3s", "8761h", "٣s", "1s\n", None, 5]
)
def test_what_is_no_duration_is_none(text: Any) -> None:
    assert seconds_of(text) is None


def test_durations_survive_copies() -> None:
    for made in (pickle.loads(pickle.dumps(Duration("5m"))), copy.deepcopy(Duration("5m"))):
        assert made.seconds == 300.0


def test_states_say_whether_they_are_ends() -> None:
    assert [s.value for s in State if s.is_ended] == ["Succeeded", "CompletedWithFailures", "Failed", "Cancelled"]
    assert all(constant.told for constant in (*State, *Reason))


def test_a_status_is_written_as_kubernetes_reads_it() -> None:
    condition = {"type": "Stalled", "status": "False", "reason": "R", "lastTransitionTime": "2025-01-31T12:00:00Z"}
    raw = {"state": "Failed", "conditions": [condition]}
    written = Status.model_validate(raw).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert written == raw
    with pytest.raises(ValidationError, match="timezone"):
        Condition.model_validate(condition | {"lastTransitionTime": "2025-01-31T12:00:00"})
