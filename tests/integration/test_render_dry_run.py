"""What the operator renders, on a real API server: every object is taken, every pod let into a strict namespace."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import ApiServer
from batchyard_operator.model import Wanted
from batchyard_operator.render import scaling
from batchyard_operator.render.podfile import MAX_BYTES
from render_cases import CASES, GOLDEN, objects, python, tensorflow

MANAGER = "--field-manager=batchyard"
OBJECTS = [
    pytest.param(each, id=f"{file.stem}-{each['kind']}-{each['metadata']['name']}")
    for file in sorted(GOLDEN.glob("*.yaml"))
    for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
JOBS = [param for param in OBJECTS if param.values[0]["kind"] == "Job"]
RUNTIME = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "sandbox"}, "handler": "runc"}
PRIORITY = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "low"},
    "value": -10,
}


def namespace(name: str, level: str = "") -> dict[str, Any]:
    """A namespace that refuses pods below a level of Pod Security, and warns of whoever would make such pods."""
    prefix = "pod-security.kubernetes.io"
    labels = {f"{prefix}/{what}": level for what in ("enforce", "warn")} if level else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    """A server with two namespaces, `batch` and one that takes pods of the level "restricted" alone."""
    world = [namespace("batch"), namespace("restricted", "restricted"), RUNTIME, PRIORITY]
    for each in world:
        applied = apply(api_server, each)
        assert applied.returncode == 0, applied.stderr
    return api_server


def apply(server: ApiServer, thing: dict[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
    command = ["apply", "--server-side", "--force-conflicts", MANAGER, "--validate=strict", *flags, "-f", "-"]
    return server.kubectl(*command, stdin=json.dumps(thing))


def bare_pod(job: dict[str, Any], where: str) -> dict[str, Any]:
    """A pod as the Job's controller would make it."""
    template = copy.deepcopy(job["spec"]["template"])
    metadata = {**template["metadata"], "name": f"{job['metadata']['name']}-0", "namespace": where}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("thing", OBJECTS)
def test_the_server_takes_every_object_and_has_nothing_to_warn_of(server: ApiServer, thing: dict[str, Any]) -> None:
    applied = apply(server, thing, "--dry-run=server")
    assert (applied.returncode, applied.stderr) == (0, "")


@pytest.mark.parametrize("thing", JOBS)
def test_a_strict_namespace_takes_the_pods(server: ApiServer, thing: dict[str, Any]) -> None:
    applied = apply(server, bare_pod(thing, "restricted"), "--dry-run=server")
    assert (applied.returncode, applied.stderr) == (0, "")


@pytest.mark.parametrize("thing", JOBS)
def test_a_strict_namespace_warns_of_no_job(server: ApiServer, thing: dict[str, Any]) -> None:
    moved = {**thing, "metadata": {**thing["metadata"], "namespace": "restricted"}}
    applied = apply(server, moved, "--dry-run=server")
    assert (applied.returncode, applied.stderr) == (0, "")


def test_a_strict_namespace_refuses_a_job_whose_user_asks_for_root(server: ApiServer) -> None:
    """Without this, the tests above could pass on a server that doesn't look."""
    spec = {**tensorflow(), "pod": {"securityContext": {"runAsNonRoot": False, "runAsUser": 0}}}
    workers = objects(spec)["workers"]
    refused = apply(server, bare_pod(workers, "restricted"), "--dry-run=server")
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr
    warned = apply(
        server, {**workers, "metadata": {**workers["metadata"], "namespace": "restricted"}}, "--dry-run=server"
    )
    assert "Warning: would violate PodSecurity" in warned.stderr


@pytest.mark.parametrize(
    ("length", "is_taken"), [pytest.param(50, True, id="longest"), pytest.param(51, False, id="+1")]
)
def test_the_longest_name_leaves_room_for_the_last_of_ten_thousand_workers(
    server: ApiServer, length: int, is_taken: bool
) -> None:
    name = "a" * length
    if is_taken:
        workers = objects(python(), name=name, wanted=Wanted(10_000, False, False))["workers"]
    else:  # no manifest can have it
        workers = objects(python(), wanted=Wanted(10_000, False, False))["workers"]
        workers["metadata"]["name"] = f"{name}-workers"
    applied = apply(server, workers, "--dry-run=server")
    assert (applied.returncode == 0) is is_taken, applied.stderr
    assert is_taken or "invalid DNS label" in applied.stderr


def test_the_largest_file_that_is_rendered_is_taken(server: ApiServer) -> None:
    overhead = len(objects({**python(), "input": {"items": [""]}})["job"]["data"]["job.json"].encode())
    largest = objects({**python(), "input": {"items": ["é" * ((MAX_BYTES - overhead) // 2)]}})["job"]
    assert MAX_BYTES - 1 <= len(largest["data"]["job.json"].encode()) <= MAX_BYTES
    applied = apply(server, largest, "--dry-run=server")
    assert applied.returncode == 0, applied.stderr
    largest["data"]["job.json"] += "xx"
    assert apply(server, largest, "--dry-run=server").returncode != 0


def test_a_job_is_scaled_suspended_and_resumed_as_it_is_rendered(server: ApiServer) -> None:
    """Applied for good: what a Job lets change is only looked at where there is one."""
    for wanted in (
        Wanted(2, False, False),
        Wanted(5, False, False),
        Wanted(0, False, False),
        Wanted(3, True, False),
        Wanted(1, False, False),
    ):
        spec = {**python(), "workers": wanted.workers or 5}
        applied = apply(server, objects(spec, name="elastic", wanted=wanted)["workers"])
        assert (applied.returncode, applied.stderr) == (0, "")
    _, found = server.request("GET", "/apis/batch/v1/namespaces/batch/jobs/elastic-workers")
    spec = found["spec"]
    assert (spec["completions"], spec["parallelism"], spec["suspend"]) == (1, 1, False)


def test_after_the_operators_settings_changed_a_job_is_refused_whole_and_scaled_by_its_patch(
    server: ApiServer,
) -> None:
    assert apply(server, objects(python(), name="older")["workers"]).returncode == 0
    images = {"queue": {"url": "nats://n:4222"}, "images": {"handler": "batchyard/handler:0.2.0"}}
    newer = objects(python(), name="older", settings=images, wanted=Wanted(4, False, False))["workers"]
    refused = apply(server, newer)
    assert refused.returncode != 0
    assert "field is immutable" in refused.stderr
    path = "/apis/batch/v1/namespaces/batch/jobs/older-workers"
    status, answer = server.request("PATCH", path, scaling(newer), kind="application/merge-patch+json")
    assert (status, answer["spec"]["parallelism"], answer["spec"]["completions"]) == (200, 4, 4)


def test_every_golden_file_is_tried() -> None:
    assert {file.stem for file in Path(GOLDEN).glob("*.yaml")} == set(CASES)
    assert len(JOBS) >= 2 * len(CASES) - 1
