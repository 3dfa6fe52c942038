"""The operator's file, as the chart writes it, is what the operator reads."""

from pathlib import Path

import pytest
import yaml
from batchyard.queue.jetstream_layout import place_of
from batchyard_operator.settings import OperatorSettings
from chart_harness import VALUES, Helm, Object, one


def settings(objects: list[Object]) -> OperatorSettings:
    """What the operator reads at start."""
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    folder, name = pod["containers"][0]["command"][-1].rsplit("/", 1)
    volume = next(mount["name"] for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == folder)
    source = next(v["configMap"]["name"] for v in pod["volumes"] if v["name"] == volume)
    return OperatorSettings.model_validate(yaml.safe_load(one(objects, "ConfigMap", source)["data"][name]))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_operator_reads_the_settings_of(helm: Helm, values: Path) -> None:
    place_of(settings(helm.render("--values", values)).queue.url + "/bj-0123")


def test_the_charts_defaults_are_the_operators(helm: Helm) -> None:
    told = settings(helm.render())
    assert told == OperatorSettings(queue=told.queue, images=told.images)
    assert told.queue == type(told.queue)(url="nats://yard-batchyard-nats.batchyard-system.svc:4222")
    assert told.images.serving == type(told.images)(handler="").serving


def test_each_setting_of_the_operator_is_written_out(helm: Helm) -> None:
    told = settings(helm.render())
    for group in (told, told.queue, told.images, told.pods):
        assert group.model_fields_set == set(type(group).model_fields)


def test_values_reach_the_operator(helm: Helm) -> None:
    told = settings(helm.render("--values", next(path for path in VALUES if path.stem == "everything")))
    assert told.model_dump() == {
        "namespaces": ["jobs"],
        "queue": {"url": "nats://yard-nats.batchyard-system.svc:4222", "replicas": 3, "lease": 7.5},
        "images": {
            "handler": "registry.example.com:5000/team/handler:7",
            "serving": "registry.example.com/serving:{version}-cpu",
            "pull_policy": "Always",
        },
        "pods": {
            "handler_resources": {
                "requests": {"cpu": "250m", "memory": "256Mi"},
                "limits": {"cpu": 2, "memory": "4Gi"},
            },
            "serving_resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
            "enqueuer_resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "run_as_user": 1000660000,
            "grace": 120,
            "startup": 3600,
        },
        "work": "s3://team",
        "turns": 32,
        "status_writes": 12.5,
        "liveness_port": 8080,
        "log_level": "DEBUG",
    }


@pytest.mark.parametrize(
    ("flags", "user"),
    [
        pytest.param([], 65532, id="the default"),
        pytest.param(["jobs.runAsUser=null"], None, id="the platform's choice"),
        pytest.param(["jobs.runAsUser=4294967294"], 4294967294, id="a number of ten digits"),
    ],
)
def test_the_user_of_jobs_is(helm: Helm, flags: list[str], user: int | None) -> None:
    assert settings(helm.render(*(f"--set={flag}" for flag in flags))).pods.run_as_user == user


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        pytest.param("defaults", dict.fromkeys(["NATS_USER", "NATS_PASSWORD"], "yard-batchyard-nats"), id="ours"),
        pytest.param("own-servers", {"NATS_USER": "team-nats", "NATS_PASSWORD": "team-nats"}, id="own servers"),
        pytest.param("own-servers-with-token", {"NATS_TOKEN": "team-nats"}, id="a token"),
        pytest.param("own-servers-that-ask-nothing", {}, id="no credentials"),
    ],
)  # fmt: skip
def test_the_operator_has_its_credentials_from_a_secret(helm: Helm, name: str, keys: dict[str, str]) -> None:
    objects = helm.render("--values", next(path for path in VALUES if path.stem == name))
    container = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    sources = {variable["name"]: variable["valueFrom"]["secretKeyRef"] for variable in container.get("env", [])}
    assert {variable: source["name"] for variable, source in sources.items()} == keys
    assert all(source["key"] == variable.removeprefix("NATS_").lower() for variable, source in sources.items())


def test_the_operator_reaches_its_own_servers_by_their_ports_alone(helm: Helm) -> None:
    objects = helm.render("--values", next(path for path in VALUES if path.stem == "own-servers"))
    egress = one(objects, "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in egress[-1]["ports"]] == [4443, 4222]
    assert "to" not in egress[-1]
