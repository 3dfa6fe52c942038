"""The file from which the pods start: what it says, what changes it, what is too large for it."""

from typing import Any

import pytest
from batchyard.api.errors import InvalidError
from batchyard.api.podfile import PodFile
from batchyard.api.spec import BatchJob
from batchyard_operator.model import Wanted
from batchyard_operator.render import JobTooLarge
from batchyard_operator.render.podfile import MAX_BYTES
from render_cases import CASES, INSIDE, START, UID, objects, python, seen


def text_of(spec: dict[str, Any], **more: Any) -> str:
    text = objects(spec, **more)["job"]["data"]["job.json"]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("name", list(CASES))
def test_a_pod_reads_the_same_job_from_its_file(name: str) -> None:
    case = CASES[name]
    text = next(each["data"]["job.json"] for each in case.objects() if each["kind"] == "ConfigMap")
    read = BatchJob.model_validate(PodFile.model_validate_json(text).job)
    told = {
        key: value for key, value in case.spec.items() if key not in ("timeout", "suspend", "ttlSecondsAfterFinished")
    }
    assert read.spec == seen(told).job.spec  # type: ignore[union-attr]  # valid
    assert read.status is None


@pytest.mark.parametrize(
    ("change", "rewrites"),
    [
        pytest.param({"suspend": True}, False, id="suspended"),
        pytest.param({"timeout": "1h"}, False, id="another timeout"),
        pytest.param({"ttlSecondsAfterFinished": 1}, False, id="another time to live"),
        pytest.param({"workers": 9}, True, id="scaled: pods that start later are told"),
    ],
)
def test_only_what_pods_are_told_of_rewrites_their_file(change: dict[str, Any], rewrites: bool) -> None:
    assert (text_of({**python(), **change}) != text_of(python())) is rewrites


def test_scaling_leaves_the_pods_as_they_are() -> None:
    before = objects(python(), wanted=Wanted(1, False, False))["workers"]["spec"]
    after = objects({**python(), "workers": 9}, wanted=Wanted(9, False, False))["workers"]["spec"]
    assert before["template"] == after["template"]


def test_the_pods_are_told_the_operators_settings() -> None:
    settings = {**INSIDE, "queue": {"url": "nats://n:4222/", "lease": 12}, "pods": {"grace": 90}, "work": "s3://w"}
    file = PodFile.model_validate_json(text_of(python(), settings=settings))
    assert (file.job_id, file.queue, file.start_time) == (UID, f"nats://n:4222/bj-{UID}", START)
    assert (file.drain, file.lease, file.work) == (85.0, 12.0, "s3://w")


@pytest.mark.parametrize(
    ("spec", "named", "advice"),
    [
        pytest.param(
            {**python(), "input": {"items": ["x" * (MAX_BYTES - 100)]}},
            "spec.input.items",
            "delimitedFiles",
            id="items",
        ),
        pytest.param(
            python(project={"inline": {"h.py": "#" * MAX_BYTES}}),
            "spec.handler.project.inline",
            "spec.handler.project.s3",
            id="files",
        ),
        pytest.param(
            python(config={"a": "é" * MAX_BYTES}), "spec.handler.config", "a file of the project", id="config"
        ),
    ],
)
def test_a_job_too_large_for_its_file_is_refused_by_what_is_large(
    spec: dict[str, Any], named: str, advice: str
) -> None:
    with pytest.raises(JobTooLarge) as refused:
        objects(spec)
    assert str(refused.value).startswith(f"{named}: found ")
    assert advice in str(refused.value)
    assert isinstance(refused.value, InvalidError)
    assert refused.value.reason == "ManifestInvalid"


def test_a_job_that_just_fits_is_rendered() -> None:
    room = MAX_BYTES - len(text_of({**python(), "input": {"items": [""]}}).encode())
    assert len(text_of({**python(), "input": {"items": ["x" * room]}}).encode()) == MAX_BYTES
    with pytest.raises(JobTooLarge):
        text_of({**python(), "input": {"items": ["x" * (room + 1)]}})
