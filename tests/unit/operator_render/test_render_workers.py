"""The two Jobs, and the model server beside the handler."""

from typing import Any

import pytest
from batchyard.serving.server_flags import parse_flags
from batchyard_operator.model import JobSeen, Key, Wanted
from batchyard_operator.render import render, scaling
from batchyard_operator.render.quantity import whole_cores
from batchyard_operator.settings import OperatorSettings
from render_cases import FILES, INSIDE, START, UID, containers_of, objects, pod_of, python, tensorflow


def test_fetch_comes_before_serving_so_that_it_starts_with_the_models_on_the_disk() -> None:
    pod = pod_of(tensorflow())
    assert [each["name"] for each in pod["initContainers"]] == ["fetch", "serving"]
    assert pod["initContainers"][1]["restartPolicy"] == "Always"


def test_a_python_job_has_no_model_server() -> None:
    assert set(containers_of(pod_of(python()))) == {"fetch", "handler"}


def test_a_disruption_is_ignored_before_an_exit_code_is_looked_at() -> None:
    rules = objects(tensorflow())["workers"]["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob", "FailJob"]
    assert {rule["onExitCodes"]["containerName"] for rule in rules[1:]} == {"handler", "fetch"}


@pytest.mark.parametrize(
    ("workers", "completions"),
    [pytest.param(1, 1, id="one"), pytest.param(7, 7, id="seven"), pytest.param(0, 5, id="none")],
)
def test_completions_follow_the_workers_and_never_fall_to_zero(workers: int, completions: int) -> None:
    spec = objects({**python(), "workers": 5}, wanted=Wanted(workers, False, False))["workers"]["spec"]
    assert (spec["parallelism"], spec["completions"]) == (workers, completions)


def test_scaling_touches_nothing_that_is_immutable() -> None:
    job = objects(python(), wanted=Wanted(3, True, False))["workers"]
    assert scaling(job) == {"spec": {"completions": 3, "parallelism": 3, "suspend": True}}


def test_workers_and_enqueuer_are_suspended_together() -> None:
    found = objects({**python(), "input": FILES}, wanted=Wanted(2, True, True))
    assert found["workers"]["spec"]["suspend"] is found["enqueuer"]["spec"]["suspend"] is True


def test_an_enqueuer_is_rendered_only_when_it_is_wanted() -> None:
    assert "enqueuer" not in objects({**python(), "input": FILES}, wanted=Wanted(1, False, False))


def test_a_job_that_is_not_valid_has_no_children() -> None:
    broken = JobSeen(Key("ns", "j"), UID, 1, 0.0, False, True, None, ("spec: wrong",), {})
    with pytest.raises(ValueError, match="ns/j is not valid"):
        render(broken, OperatorSettings.model_validate(INSIDE), START, Wanted(1, False, False), {})


@pytest.mark.parametrize(
    ("handler", "image"),
    [
        pytest.param({}, "tensorflow/serving:2.3.0", id="the default version"),
        pytest.param({"tensorflowVersion": "2.19.1"}, "tensorflow/serving:2.19.1", id="another version"),
        pytest.param({"tensorflowVersion": "2.11.0-gpu"}, "tensorflow/serving:2.11.0-gpu", id="a variant"),
        pytest.param({"servingImage": "mine:1"}, "mine:1", id="the job's own image"),
    ],
)
def test_the_model_servers_image_is_the_jobs_or_that_of_its_version(handler: dict[str, Any], image: str) -> None:
    assert containers_of(pod_of(tensorflow(**handler)))["serving"]["image"] == image


@pytest.mark.parametrize(
    ("handler", "present", "absent"),
    [
        pytest.param({}, set(), {"--enable_serialization_as_tensor_content=true"}, id="2.3"),
        pytest.param(
            {"tensorflowVersion": "2.20.0"}, {"--enable_serialization_as_tensor_content=true"}, set(), id="2.20"
        ),
        pytest.param(
            {"servingImage": "mine:1", "tensorflowVersion": "2.20.0-rc0"},
            {"--enable_serialization_as_tensor_content=true"},
            set(),
            id="an own image of a version",
        ),
        pytest.param(
            {"servingResources": {"limits": {"cpu": "2500m"}}},
            {"--tensorflow_intra_op_parallelism=3", "--tensorflow_inter_op_parallelism=3"},
            set(),
            id="a CPU limit",
        ),
        pytest.param(
            {"servingResources": {"requests": {"cpu": "4"}}},
            set(),
            {"--tensorflow_intra_op_parallelism=4"},
            id="none",
        ),
    ],
)
def test_the_servers_flags_fit_its_version_and_its_cores(
    handler: dict[str, Any], present: set[str], absent: set[str]
) -> None:
    flags = set(containers_of(pod_of(tensorflow(**handler)))["serving"]["command"])
    assert flags >= present
    assert not flags & absent


def test_our_own_server_takes_the_rendered_flags_without_a_warning() -> None:
    command = containers_of(pod_of(tensorflow(tensorflowVersion="2.20.0")))["serving"]["command"]
    flags = parse_flags(command[command.index("serving") + 1 :])
    assert (flags.port, flags.rest_api_port, flags.socket) == (8500, 8501, "/mnt/.batchyard/serving.sock")
    assert flags.warnings == []


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        (None, None),
        ("1", 1),
        (2, 2),
        (0.5, 1),
        ("500m", 1),
        ("1500m", 2),
        ("2000m", 2),
        ("2.", 2),
        (".1", 1),
        ("3e0", 3),
        ("12E-1", 2),
        ("1k", 1000),
        ("1Ki", 1024),
        ("100000000n", 1),
        ("0", 1),
    ],
)
def test_cores_are_the_limit_rounded_up(limit: Any, cores: int | None) -> None:
    assert whole_cores({"limits": {} if limit is None else {"cpu": limit}, "requests": {"cpu": "9"}}) == cores


def test_a_setting_that_is_no_quantity_is_told() -> None:
    with pytest.raises(ValueError, match=r"limits\.cpu: found 'two', expected a quantity"):
        whole_cores({"limits": {"cpu": "two"}})


def test_the_probe_lasts_as_long_as_models_may_load() -> None:
    probe = containers_of(pod_of(tensorflow(), settings={**INSIDE, "pods": {"startup": 90}}))["serving"][
        "startupProbe"
    ]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 90
