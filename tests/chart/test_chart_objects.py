"""A real API server takes every object of the chart as it stands, and helm installs, upgrades and removes them."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import api_server as api_servers
import pytest
import yaml
from api_server import ApiServer
from chart_harness import CHART, NAMESPACE, ROOT, VALUES, Helm, Object, one

CRD = ROOT / "crds"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/yard-batchyard-nats"
RESTRICTED = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
RESTRICTED["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}  # type: ignore[index]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own, with the namespaces that the values name: helm owns the resource there."""
    if what := api_servers.missing():
        pytest.skip(what)
    with api_servers.running(tmp_path_factory.mktemp("api-server")) as running:
        for name in ("team-a", "team-b", "jobs"):
            assert running.kubectl("create", "namespace", name).returncode == 0
        made = running.kubectl("apply", "-f", "-", stdin=json.dumps(RESTRICTED))
        assert made.returncode == 0, made.stderr
        yield running


@pytest.fixture(scope="module")
def installed(helm: Helm, server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm on that server, with the chart installed once by its defaults."""
    on_server = Helm(tmp_path_factory.mktemp("helm-on-server"), server.kubeconfig)
    answer = on_server.run("install", "yard", CHART, "--namespace", NAMESPACE)
    assert answer.returncode == 0, answer.stderr
    waited = server.kubectl("wait", "--for=condition=Established", "crd/batchjobs.batchyard.dev", "--timeout=30s")
    assert waited.returncode == 0, waited.stderr
    return on_server


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_an_api_server_takes_every_object_of(helm: Helm, installed: Helm, server: ApiServer, values: Path) -> None:
    text = yaml.safe_dump_all(helm.render("--values", values, release="another"))
    said = server.kubectl("apply", "--dry-run=server", "--validate=strict", "--force-conflicts", "--server-side",
                          "--field-manager=helm", "-f", "-", stdin=text)  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "Warning" not in said.stderr


def pods(objects: list[Object]) -> Iterator[Object]:
    """The pods that the objects make, or are."""
    for seen in objects:
        if seen["kind"] in ("Deployment", "StatefulSet"):
            template = seen["spec"]["template"]
            volumes = [{"name": "data", "emptyDir": {}}] if seen["spec"].get("volumeClaimTemplates") else []
            spec = {**template["spec"], "volumes": template["spec"]["volumes"] + volumes}
            labels = template["metadata"]["labels"]
            metadata = {"name": seen["metadata"]["name"], "namespace": NAMESPACE, "labels": labels}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        elif seen["kind"] == "Pod":
            yield {**seen, "metadata": {**seen["metadata"], "namespace": NAMESPACE}}


@pytest.mark.parametrize("name", ["defaults", "three-servers", "no-disk"])
def test_each_pod_passes_pod_security_restricted(helm: Helm, installed: Helm, server: ApiServer, name: str) -> None:
    made = list(pods(helm.render("--values", next(path for path in VALUES if path.stem == name))))
    assert len(made) == 3
    for pod in made:
        said = server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(pod))
        assert said.returncode == 0, said.stderr


def test_pod_security_refuses_a_pod_of_ours_that_may_gain_rights(
    helm: Helm, installed: Helm, server: ApiServer
) -> None:
    pod = next(pods(helm.render()))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    said = server.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    assert 'violates PodSecurity "restricted:latest"' in said.stderr


def test_an_upgrade_keeps_the_queues_password(installed: Helm, server: ApiServer) -> None:
    before = server.request("GET", SECRET)[1]["data"]
    answer = installed.run("upgrade", "yard", CHART, "--namespace", NAMESPACE, "--set", "operator.logLevel=DEBUG")
    assert answer.returncode == 0, answer.stderr
    assert server.request("GET", SECRET)[1]["data"] == before
    assert len(base64.b64decode(before["password"])) == 40


def test_settings_that_changed_restart_the_operator_and_not_the_queue(helm: Helm) -> None:
    def sums(*flags: str) -> list[str]:
        objects = helm.render(*flags)
        return [
            value
            for kind in ("Deployment", "StatefulSet")
            for value in one(objects, kind)["spec"]["template"]["metadata"]["annotations"].values()
        ]

    first, other = sums(), sums("--set=operator.turns=8")
    assert first == sums()
    assert first[0] != other[0]
    assert first[1] == other[1]


def test_a_pods_labels_stay_when_the_charts_version_changes(helm: Helm) -> None:
    for kind in ("Deployment", "StatefulSet"):
        template = one(helm.render(), kind)["spec"]["template"]
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & template["metadata"]["labels"].keys()


def test_services_and_policies_select_the_charts_pods_and_no_pod_of_a_job(helm: Helm) -> None:
    objects = helm.render("--set=nats.replicas=3")
    nats = one(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    job = {
        "app.kubernetes.io/name": "batchyard",
        "app.kubernetes.io/component": "worker",
        "batchyard.dev/job": "nats",
    }
    selectors = [o["spec"]["selector"] for o in objects if o["kind"] == "Service"]
    selectors.append(one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
    selectors.append(one(objects, "NetworkPolicy", "yard-batchyard-nats")["spec"]["podSelector"]["matchLabels"])
    assert len(selectors) == 4
    for selector in selectors:
        assert selector.items() <= nats.items()
        assert not selector.items() <= job.items()


def test_uninstalling_keeps_jobs_and_the_password_and_installing_again_takes_them_over(
    installed: Helm, server: ApiServer
) -> None:
    job = {"apiVersion": "batchyard.dev/v1alpha1", "kind": "BatchJob", "metadata": {"name": "kept"}}
    job["spec"] = {"handler": {"type": "python", "path": "handler.py"}, "input": {"items": [1]}}
    made = server.kubectl("create", "-f", "-", stdin=json.dumps(job))
    assert made.returncode == 0, made.stderr
    before = server.request("GET", SECRET)[1]["data"]
    assert installed.run("uninstall", "yard", "--namespace", NAMESPACE).returncode == 0
    assert server.kubectl("get", "batchjob", "kept").returncode == 0
    assert server.kubectl("get", "--namespace", NAMESPACE, "deployment,statefulset", "--output=name").stdout == ""
    again = installed.run("install", "yard", CHART, "--namespace", NAMESPACE)
    assert again.returncode == 0, again.stderr
    assert server.request("GET", SECRET)[1]["data"] == before
    other = installed.run("install", "second", CHART, "--namespace", "jobs")
    assert "cannot be imported into the current release" in other.stderr
