"""What is true of every pod, and what a user may add to them."""

import json
from typing import Any

import pytest
from batchyard.api.pod import Pod
from batchyard.api.strict import fields
from render_cases import CASES, FILES, INSIDE, UID, containers_of, objects, pod_of, python, tensorflow


def all_pods() -> list[Any]:
    """The pod templates of every golden job."""
    return [
        pytest.param(each["spec"]["template"], id=f"{name}-{each['metadata']['name']}")
        for name, case in CASES.items()
        for each in case.objects()
        if each["kind"] == "Job"
    ]


@pytest.mark.parametrize("template", all_pods())
def test_every_container_has_resources_a_kept_message_and_no_privileges(template: dict[str, Any]) -> None:
    for container in containers_of(template["spec"]).values():
        assert container["resources"].get("requests") or container["resources"].get("limits")
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("template", all_pods())
def test_every_pod_has_no_token_and_no_service_variables_and_is_never_restarted(template: dict[str, Any]) -> None:
    pod = template["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["restartPolicy"] == "Never"


@pytest.mark.parametrize("template", all_pods())
def test_no_name_stands_twice_where_server_side_apply_takes_it_as_a_key(template: dict[str, Any]) -> None:
    pod = template["spec"]
    for container in containers_of(pod).values():
        variables = [each["name"] for each in container.get("env", [])]
        paths = [each["mountPath"] for each in container["volumeMounts"]]
        assert len(set(variables)) == len(variables)
        assert len(set(paths)) == len(paths)
    volumes = [each["name"] for each in pod["volumes"]]
    assert len(set(volumes)) == len(volumes)


def test_every_child_belongs_to_the_job_and_carries_its_labels() -> None:
    for each in CASES["everything"].objects():
        owner = each["metadata"]["ownerReferences"][0]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (UID, True, True)
        assert each["metadata"]["labels"]["batchyard.dev/job-uid"] == UID
        assert each["metadata"]["namespace"] == "batch"


def test_variables_of_the_handler_stand_in_fetch_handler_and_enqueuer_but_not_in_the_server() -> None:
    spec = {**tensorflow(env=[{"name": "AWS_REGION", "value": "x"}]), "input": FILES}
    found = {**containers_of(pod_of(spec)), **containers_of(pod_of(spec, "enqueuer"))}
    having = {name for name, each in found.items() if {"name": "AWS_REGION", "value": "x"} in each.get("env", [])}
    assert having == {"fetch", "handler", "enqueuer"}


@pytest.mark.parametrize(
    "name", ["BATCHYARD_POD", "PYTHONSAFEPATH", "PYTHONUNBUFFERED", "JOB_COMPLETION_INDEX", "NATS_USER"]
)
def test_a_users_variable_never_hides_one_that_the_pod_needs(name: str) -> None:
    handler = containers_of(pod_of(python(env=[{"name": name, "value": "mine"}])))["handler"]
    assert {"name": name, "value": "mine"} not in handler["env"]


def test_a_variable_named_like_the_queues_is_the_users_while_the_queue_needs_none() -> None:
    handler = containers_of(pod_of(python(env=[{"name": "NATS_USER", "value": "mine"}]), credentials={}))["handler"]
    assert {"name": "NATS_USER", "value": "mine"} in handler["env"]


def test_without_credentials_there_is_no_secret_and_nobody_looks_for_one() -> None:
    found = objects({**python(), "input": FILES}, credentials={"NATS_USER": "", "NATS_TOKEN": ""})
    assert set(found) == {"job", "workers", "enqueuer"}
    assert "secretRef" not in json.dumps(found)


def test_a_secret_value_stands_in_the_secret_alone() -> None:
    found = objects({**tensorflow(), "input": FILES}, credentials={"NATS_TOKEN": "t0p-s3cret"})
    assert found["queue"]["data"] == {"NATS_TOKEN": "dDBwLXMzY3JldA=="}
    del found["queue"]
    assert "t0p-s3cret" not in json.dumps(found)
    assert "dDBwLXMzY3JldA" not in json.dumps(found)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(None, {"requests": {"cpu": "250m", "memory": "256Mi"}}, id="the default"),
        pytest.param(
            {"limits": {"cpu": "2"}}, {"limits": {"cpu": "2"}}, id="the job's own, not mixed with the default"
        ),
    ],
)
def test_fetch_and_handler_have_the_same_resources(given: Any, expected: Any) -> None:
    found = containers_of(pod_of(python(**({} if given is None else {"resources": given}))))
    assert found["fetch"]["resources"] == found["handler"]["resources"] == expected


def test_a_users_volumes_are_in_every_container_and_read_only_for_the_server() -> None:
    volumes = {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {**tensorflow(), "input": FILES, "pod": volumes}
    found = {**containers_of(pod_of(spec)), **containers_of(pod_of(spec, "enqueuer"))}
    mounts = {name: each["volumeMounts"][-1] for name, each in found.items()}
    assert mounts.pop("serving") == {"name": "data", "mountPath": "/data", "readOnly": True}
    assert all(mount == {"name": "data", "mountPath": "/data"} for mount in mounts.values())
    assert volumes["volumes"][0] in pod_of(spec)["volumes"]
    assert volumes["volumes"][0] in pod_of(spec, "enqueuer")["volumes"]


def test_a_project_from_a_config_map_is_mounted_in_fetch_alone() -> None:
    spec = {**tensorflow(path="h.py", project={"configMap": "files"}), "input": FILES}
    found = {**containers_of(pod_of(spec)), **containers_of(pod_of(spec, "enqueuer"))}
    having = {name for name, each in found.items() if "/etc/batchyard/project" in json.dumps(each["volumeMounts"])}
    assert having == {"fetch"}
    assert "files" not in json.dumps(pod_of(spec, "enqueuer")["volumes"])


def test_every_field_of_spec_pod_reaches_both_pods() -> None:
    """A field that is added to the manifest and forgotten here fails this test."""
    marks = {name: f"mark-{name}" for name in fields(Pod)}
    values = {
        "labels": {"a": marks["labels"]},
        "annotations": {"a": marks["annotations"]},
        "nodeSelector": {"a": marks["nodeSelector"]},
        "tolerations": [{"key": marks["tolerations"]}],
        "affinity": {"a": marks["affinity"]},
        "serviceAccountName": marks["serviceAccountName"],
        "volumes": [{"name": marks["volumes"]}],
        "volumeMounts": [{"name": marks["volumeMounts"], "mountPath": "/x"}],
        "priorityClassName": marks["priorityClassName"],
        "imagePullSecrets": [{"name": marks["imagePullSecrets"]}],
        "schedulerName": marks["schedulerName"],
        "runtimeClassName": marks["runtimeClassName"],
        "topologySpreadConstraints": [{"topologyKey": marks["topologySpreadConstraints"]}],
        "securityContext": {"a": marks["securityContext"]},
    }
    found = objects({**python(), "input": FILES, "pod": values})
    for which in ("workers", "enqueuer"):
        text = json.dumps(found[which]["spec"]["template"])
        assert [mark for mark in marks.values() if mark not in text] == []


def test_our_labels_win_over_the_users() -> None:
    pod = {"labels": {"batchyard.dev/job": "other", "team": "a"}}
    labels = objects({**python(), "pod": pod})["workers"]["spec"]["template"]["metadata"]["labels"]
    assert (labels["batchyard.dev/job"], labels["team"]) == ("digits", "a")


@pytest.mark.parametrize(
    ("user", "given", "expected"),
    [
        pytest.param(
            65532, {}, {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}, id="the operator's user"
        ),
        pytest.param(None, {}, {}, id="the cluster's user"),
        pytest.param(None, {"runAsUser": 7}, {"runAsUser": 7}, id="the job's user"),
        pytest.param(
            65532,
            {"runAsUser": 7, "fsGroup": None},
            {"runAsUser": 7, "runAsGroup": 65532},
            id="a null takes a field away",
        ),
        pytest.param(
            None,
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}},
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}},
            id="a profile is replaced as a whole",
        ),
        pytest.param(None, {"runAsNonRoot": False}, {"runAsNonRoot": False}, id="root, where a cluster lets it"),
    ],
)
def test_the_jobs_security_context_stands_over_ours(
    user: int | None, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    settings = {**INSIDE, "pods": {"run_as_user": user}}
    context = pod_of({**python(), "pod": {"securityContext": given}}, settings=settings)["securityContext"]
    context.pop("fsGroupChangePolicy", None)
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **expected}
