"""The chart takes what values.yaml documents, refuses all else in a sentence, and renders what was reviewed."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from batchyard.api import crd
from chart_harness import CHART, ROOT, VALUES, Helm, one

GOLDEN = Path(__file__).parent / "golden"
GENERATED = ROOT / "crds" / "batchjobs.batchyard.dev.yaml"


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_helm_finds_nothing_to_say_about(helm: Helm, values: Path) -> None:
    answer = helm.run("lint", "--strict", CHART, "--values", values)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "WARNING" not in answer.stdout


REFUSALS = [
    pytest.param(["nats.replica=3"], "at '/nats': additional properties 'replica' not allowed", id="unknown value"),
    pytest.param(["image.tag=1"], "additional properties 'image' not allowed", id="unknown group"),
    pytest.param(["nats.replicas=2"], "at '/nats/replicas': value must be one of 1, 3", id="two servers"),
    pytest.param(["nats.storage.size=10GB"], "at '/nats/storage/size': '10GB' does not match", id="decimal size"),
    pytest.param(["nats.syncInterval=never"], "at '/nats/syncInterval': 'never' does not match", id="never synced"),
    pytest.param(["operator.turns=0"], "at '/operator/turns': minimum: got 0, want 1", id="no turns"),
    pytest.param(["operator.logLevel=TRACE"], "value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'", id="level"),
    pytest.param(["operator.image.tag=a b"], "at '/operator/image/tag': 'a b' does not match", id="tag with a space"),
    pytest.param(["jobs.runAsUser=0"], "at '/jobs/runAsUser': minimum: got 0, want 1", id="root"),
    pytest.param(["jobs.grace=5"], "at '/jobs/grace': minimum: got 5, want 10", id="no time to end"),
    pytest.param(
        ["jobs.handlerResources.memory=1Gi"],
        "additional properties 'memory' not allowed",
        id="resources without kind",
    ),
    pytest.param(["namespaces={Team}"], "at '/namespaces/0': 'Team' does not match", id="namespace in capitals"),
    pytest.param(["namespaces={a,a}"], "at '/namespaces': items at 0 and 1 are equal", id="namespace twice"),
    pytest.param(["queue.work=/data"], "at '/queue/work': '/data' does not match", id="folder for large batches"),
    pytest.param(["crds.install=yes please"], "at '/crds/install': got string, want boolean", id="no boolean"),
    pytest.param(
        ["queue.url=nats://a:4222"],
        'queue.url is "nats://a:4222" while nats.enabled is true: set nats.enabled=false to use your own servers',
        id="own servers and ours",
    ),
    pytest.param(
        ["nats.enabled=false"],
        "queue.url is empty while nats.enabled is false: name your NATS servers, such as nats://",
        id="no servers",
    ),
    pytest.param(
        ["nats.enabled=false", "queue.url=nats://me:hunter2@a:4222"],
        "queue.url holds credentials: put them into a Secret with the keys user and password",
        id="credentials in the address",
    ),
    pytest.param(
        ["queue.url=nats://me:hunter2@a:4222"], 'queue.url is "nats://…@a:4222" while', id="both and a password"
    ),
    pytest.param(
        ["nats.enabled=false", "queue.url=a:4222"], 'queue.url is "a:4222": expected nats://host:port', id="no scheme"
    ),
    pytest.param(
        ["nats.enabled=false", "queue.url=nats://a:4222/jobs"], "and nothing behind them", id="address with a path"
    ),
    pytest.param(
        ["queue.auth=token"],
        "queue.auth is token while nats.enabled is true: the chart's NATS knows",
        id="token of ours",
    ),
    pytest.param(
        ["queue.auth=token", "nats.enabled=false", "queue.url=nats://a"],
        "queue.auth is token while queue.existingSecret is empty: name the Secret that holds the key token",
        id="token of nowhere",
    ),
    pytest.param(
        ["queue.replicas=3"],
        "queue.replicas is 3 while nats.replicas is 1: streams can't have more copies than there are servers",
        id="more copies than servers",
    ),
    pytest.param(
        ["serviceAccount.create=false"],
        "serviceAccount.create is false while serviceAccount.name is empty: name the account",
        id="no account",
    ),
    pytest.param(
        ["nats.storage.enabled=false", "nats.storage.storageClass=fast"],
        'nats.storage.storageClass is "fast" while nats.storage.enabled is false: an emptyDir has no class',
        id="class of an emptyDir",
    ),
]


@pytest.mark.parametrize(("settings", "sentence"), REFUSALS)
def test_what_cannot_be_meant_is_refused_with_a_sentence(helm: Helm, settings: list[str], sentence: str) -> None:
    said = helm.refusal(*(f"--set={setting}" for setting in settings))
    assert sentence in said
    assert "hunter2" not in said


def test_a_kubernetes_without_native_sidecars_is_refused(helm: Helm) -> None:
    assert "incompatible with Kubernetes v1.32.0" in helm.refusal("--kube-version=1.32.0")
    helm.render("--kube-version=1.33.0")


def names(schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all values that a schema names."""
    if reference := schema.get("$ref"):
        schema = definitions[reference.rpartition("/")[2]]
    if "properties" not in schema or path.endswith(("Resources", "resources")):
        yield path
        return
    assert schema["additionalProperties"] is False, path
    for name, below in schema["properties"].items():
        yield from names(below, definitions, f"{path}.{name}")


def documented(values: Any, known: set[str], path: str = "") -> Iterator[str]:
    """The paths of all values with a default."""
    if path in known or not isinstance(values, dict):
        yield path
        return
    for name, below in values.items():
        yield from documented(below, known, f"{path}.{name}")


def test_each_value_is_in_the_schema_and_has_its_default_and_its_words() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "values.yaml").read_text()
    known = set(names(schema, schema["definitions"])) - {".global"}
    assert set(documented(yaml.safe_load(text), known)) == known


def test_values_of_another_chart_that_holds_this_one_are_let_in(helm: Helm) -> None:
    helm.render("--set", "global.region=eu")


def test_the_versions_are_those_of_the_project(helm: Helm) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["appVersion"] == version
    assert re.sub(r"-(dev|rc)\.", r".\1", about["version"]) == version
    image = one(helm.render(), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"batchyard/operator:{version}"


def test_the_resource_is_the_generated_one_and_outlives_the_release(helm: Helm) -> None:
    copy = CHART / "files" / GENERATED.name
    assert copy.read_text() == GENERATED.read_text(), "the chart's copy differs: make crds"
    rendered = one(helm.render(), "CustomResourceDefinition")
    metadata = rendered["metadata"]
    assert metadata.pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert metadata.pop("labels")["app.kubernetes.io/managed-by"] == "Helm"
    assert rendered == crd.definition()


def test_the_resource_can_be_left_to_somebody_else(helm: Helm) -> None:
    assert not [o for o in helm.render("--set=crds.install=false") if o["kind"] == "CustomResourceDefinition"]


@pytest.mark.parametrize("name", ["defaults", "everything", "two-namespaces"])
def test_the_objects_are_those_that_were_reviewed(helm: Helm, name: str) -> None:
    """UPDATE_GOLDEN=1 writes them anew; the difference is then read before it is committed."""
    objects = [
        o
        for o in helm.render("--values", next(path for path in VALUES if path.stem == name))
        if o["kind"] != "CustomResourceDefinition"
    ]
    for secret in (o for o in objects if o["kind"] == "Secret"):
        assert re.fullmatch(r"[A-Za-z0-9+/]{54}==", secret["data"]["password"])  # 40 letters and digits
        secret["data"]["password"] = "generated"
    text = yaml.safe_dump_all(objects, sort_keys=True, width=110)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_the_notes_name_the_next_commands(helm: Helm) -> None:
    flags = ["--dry-run=client", "--namespace", "here", "--set=namespaces={jobs}", "--set=nats.storage.enabled=false"]
    said = helm.run("install", "yard", CHART, *flags)
    assert said.returncode == 0, said.stderr
    notes = said.stdout.partition("NOTES:")[2]
    assert "runs the BatchJobs of jobs." in notes
    assert "kubectl --namespace here rollout status deployment/yard-batchyard" in notes
    assert "helm test yard --namespace here" in notes
    assert "kubectl --namespace jobs apply -f batchjob.yaml" in notes
    assert "deleting the pod yard-batchyard-nats-0 ends the jobs" in notes
