"""The CRD on a real API server: it refuses what `batchyard validate` refuses, and takes the rest as it is."""

import itertools
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import ApiServer
from batchyard.api import crd
from batchyard.api.manifest import parse
from batchyard.api.spec import BatchJob

REPOSITORY = Path(__file__).parents[2]
CASES = yaml.safe_load((REPOSITORY / "tests/unit/manifest_refusals.yaml").read_text(encoding="utf-8"))
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/batchjobs.batchyard.dev"
JOBS = "/apis/batchyard.dev/v1alpha1/namespaces/default/batchjobs"

_numbers = itertools.count()


def manifest(
    *,
    name: str = "digits",
    handler: str = "{type: tensorflow, models: {path: m}}",
    input: str = "{items: [1, 2]}",  # noqa: A002 - the field's name
    more: str = "",
) -> str:
    """A manifest's text, as the table of refusals means it."""
    return (
        "apiVersion: batchyard.dev/v1alpha1\n"
        "kind: BatchJob\n"
        f"metadata: {{name: {name}}}\n"
        "spec:\n"
        f"  handler: {handler}\n"
        f"  input: {input}\n"
        f"{textwrap.indent(more, '  ')}\n"
    )


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    """A server that knows BatchJobs, from the file that is handed out."""
    applied = api_server.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
    assert applied.returncode == 0, applied.stderr
    waited = api_server.kubectl(
        "wait", "--for=condition=Established", f"crd/{crd.PLURAL}.{crd.GROUP}", "--timeout=30s"
    )
    assert waited.returncode == 0, waited.stderr
    return api_server


def dry_run(server: ApiServer, text: str) -> tuple[int, dict[str, Any]]:
    """Ask the server to make what a manifest's text says, as `kubectl create --dry-run=server` does."""
    path = f"{JOBS}?dryRun=All&fieldValidation=Strict"
    return server.request("POST", path, text, kind="application/yaml")


def taken(server: ApiServer, text: str) -> dict[str, Any]:
    status, answer = dry_run(server, text)
    assert status == 201, answer.get("message", answer)
    return answer


def refused(server: ApiServer, text: str) -> str:
    status, answer = dry_run(server, text)
    assert status in (400, 422), f"{status}: {answer}"
    return str(answer["message"])


@pytest.fixture
def make(server: ApiServer) -> Iterator[Callable[..., dict[str, Any]]]:
    """Make a job that is really there, under a name of its own; gone after the test."""
    made: list[str] = []

    def create(**parts: str) -> dict[str, Any]:
        name = f"job-{next(_numbers)}"
        status, answer = server.request("POST", JOBS, manifest(name=name, **parts), kind="application/yaml")
        assert status == 201, answer
        made.append(name)
        return answer

    yield create
    for name in made:
        server.request("DELETE", f"{JOBS}/{name}")


def patch(server: ApiServer, name: str, change: dict[str, Any], below: str = "") -> tuple[int, dict[str, Any]]:
    kind = "application/merge-patch+json"
    return server.request("PATCH", f"{JOBS}/{name}{below}", change, kind=kind)


def test_the_definition_is_structural_and_served(server: ApiServer) -> None:
    _, found = server.request("GET", CRD)
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


def test_the_server_keeps_the_definition_as_it_is_written(server: ApiServer) -> None:
    _, found = server.request("GET", CRD)
    assert found["spec"]["versions"][0]["schema"] == crd.definition()["spec"]["versions"][0]["schema"]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["case"]) for case in CASES if "cluster" not in case])
def test_what_validate_refuses_the_api_server_refuses(server: ApiServer, case: dict[str, Any]) -> None:
    parts = {name: text for name, text in case.items() if name not in ("case", "says", "text")}
    refused(server, case.get("text") or manifest(**parts))


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["case"]) for case in CASES if "cluster" in case and "text" not in case]
)
def test_what_the_api_server_is_said_to_take_it_takes(server: ApiServer, case: dict[str, Any]) -> None:
    parts = {name: text for name, text in case.items() if name not in ("case", "says", "text", "cluster")}
    taken(server, manifest(**parts))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        pytest.param(
            {"handler": "{type: tensorflow}"},
            "spec.handler.models: Required value: expected models with path, paths or dir, because type is "
            "tensorflow",
            id="tensorflow without models",
        ),
        pytest.param(
            {"handler": "{type: python, path: h.py, models: {path: m}}"},
            "spec.handler.models: Forbidden: expected no models, because type is python (a job with models has type "
            "tensorflow)",
            id="python with models",
        ),
        pytest.param(
            {"more": "errorThreshold: {batches: 1, percent: 1}"},
            "expected exactly one of batches and percent",
            id="two thresholds",
        ),
        pytest.param(
            {"more": "retry: {backoff: {initial: 10m}}"},
            "spec.retry.backoff.max",
            id="a backoff above the default",
        ),
        pytest.param({"more": "timeout: 8761h"}, "expected a duration above zero, such as 30s", id="a long timeout"),
        pytest.param(
            {"handler": "{type: python, path: a/../h.py}"},
            'spec.handler.path: Invalid value: "a/../h.py": expected a .py file inside the project folder',
            id="a handler outside of the project",
        ),
        pytest.param(
            {"more": "output: {path: 'gs://x'}"},
            'spec.output.path: Invalid value: "gs://x": expected a local path or s3://bucket/prefix',
            id="another store",
        ),
        pytest.param(
            {"name": "a.b"}, "expected at most 50 lowercase letters, digits and dashes", id="a name with a dot"
        ),
        pytest.param(
            {"handler": "{type: python, path: h.py, project: {inline: {h.py: '', a/../../x: ''}}}"},
            "expected relative paths that stay in the project",
            id="an inline file outside of the project",
        ),
        pytest.param({"more": "worker: 2"}, 'unknown field "spec.worker"', id="a misspelt field"),
    ],
)
def test_rules_between_fields_are_told_in_the_words_of_validate(
    server: ApiServer, parts: dict[str, str], said: str
) -> None:
    assert said in refused(server, manifest(**parts))


GOOD = {
    "the smallest": {},
    "python": {"handler": "{type: python, path: src/h.py}"},
    "every kind of item": {"input": "{items: [1, a, null, {b: null}, [1, [2]], true, 1.5]}"},
    "no items": {"input": "{items: []}"},
    "a null is a field left out": {"more": "workers:\noutput: null\npod: ~"},
    "free settings": {"handler": "{type: python, path: h.py, config: {a: {b: [1, null]}, c: null}}"},
    "quantities of every kind": {
        "handler": "{type: python, path: h.py, resources: {limits: {cpu: 0.5, memory: 4Gi, a/b: 1, c: '2'}}}"
    },
    "requirements in a file": {"handler": "{type: python, path: h.py, dependencies: {pip: requirements.txt}}"},
    "requirements in a list": {"handler": "{type: python, path: h.py, dependencies: {pip: [pillow==11.0]}}"},
    "several models": {
        "handler": "{type: tensorflow, models: {paths: [{name: a, path: x}, {name: b, path: 's3://b/c'}]}}"
    },
    "the latest version of one model, two of another": {
        "handler": "{type: tensorflow, models: {versions: latest, paths: [{name: a, path: x, versions: [1, 3]}]}}"
    },
    "a store of one's own": {
        "more": "storage: {endpoint: 'http://minio:9000', region: r, pathStyle: true, work: 's3://b/w'}"
    },
    "a folder of models and all of a handler": {
        "handler": "{type: tensorflow, models: {dir: /models, signatureKey: s}, tensorflowVersion: 2.14.1, "
        "image: a/b:1, servingImage: c:2, "
        "env: [{name: A, value: ''}, {name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}], "
        "envFrom: [{secretRef: {name: s}}], processes: 2, threads: 3, logLevel: debug}"
    },
    "inline files": {"handler": "{type: python, path: a/h.py, project: {inline: {a/h.py: 'x', b..c: ''}}}"},
    "files": {"input": "{files: {paths: [a, 's3://b/c'], includes: ['*.jpg'], excludes: [x]}, batchSize: 10}"},
    "durations": {
        "more": "timeout: 8760h\nbatchTimeout: 1h30m0.5s\nretry: {maxAttempts: 1, backoff: {initial: 0s, max: 250ms}}"
    },
    "everything of a spec": {
        "more": "workers: 10000\nsuspend: true\nttlSecondsAfterFinished: 0\nerrorThreshold: {percent: 0.5}\n"
        "output: {path: out, key: id}\npod: {labels: {a: b}, tolerations: [{operator: Exists}], volumes: [{name: v, "
        "emptyDir: {}}], affinity: {nodeAffinity: {}}, securityContext: {runAsUser: 1}}"
    },
    "the longest name": {"name": "a" * 50},
}


@pytest.mark.parametrize("parts", [pytest.param(parts, id=name) for name, parts in GOOD.items()])
def test_a_right_manifest_is_taken_and_read_back_as_the_same_job(server: ApiServer, parts: dict[str, str]) -> None:
    text = manifest(**parts)
    answer = taken(server, text)
    assert BatchJob.model_validate(answer).spec == parse(text, Path()).job.spec


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"input": f"{{items: [{', '.join(['abcdefg'] * 90_000)}]}}"}, id="many items"),
        pytest.param(
            {"input": f"{{files: {{paths: [{', '.join(f'images/{n}.jpg' for n in range(40_000))}]}}}}"},
            id="many paths",
        ),
        pytest.param(
            {
                "handler": "{type: python, path: h.py, project: {inline: {h.py: '', "
                + ", ".join(f"folder/{n}.py: x{'y' * 200}" for n in range(4_000))
                + "}}}"
            },
            id="many inline files",
        ),
    ],
)
def test_a_job_as_large_as_it_may_be_is_within_the_costs_of_its_rules(
    server: ApiServer, make: Callable[..., dict[str, Any]], parts: dict[str, str]
) -> None:
    status, answer = patch(server, make(**parts)["metadata"]["name"], {"spec": {"workers": 2}})
    assert status == 200, str(answer)[:500]


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.parent.name) for p in sorted(REPOSITORY.glob("examples/*/batchjob.yaml"))]
)
def test_an_example_is_taken_as_it_stands(server: ApiServer, path: Path) -> None:
    answer = server.kubectl("create", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert answer.returncode == 0, answer.stderr


def test_defaults_are_filled_in(make: Callable[..., dict[str, Any]]) -> None:
    spec = make(more="retry: {maxAttempts: 5}\noutput: {path: out}")["spec"]
    assert spec["workers"] == 1
    assert spec["suspend"] is False
    assert spec["input"] == {"items": [1, 2], "batchSize": 1}
    assert spec["retry"] == {"maxAttempts": 5, "backoff": {"initial": "1s", "max": "5m"}}
    assert spec["output"] == {"path": "out", "format": "jsonl"}
    assert spec["handler"]["tensorflowVersion"] == "2.3.0"
    assert spec["handler"]["logLevel"] == "info"
    assert "pod" not in spec


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"handler": {"config": {"a": {"b": 2}}}}, id="a free setting"),
        pytest.param({"handler": {"resources": {"limits": {"cpu": 2}}}}, id="a quantity"),
        pytest.param({"input": {"items": [1, {"a": 3}]}}, id="an item"),
        pytest.param({"input": {"batchSize": 2}}, id="the size of a batch"),
        pytest.param({"output": {"path": "x"}}, id="an output that was left out"),
        pytest.param({"batchTimeout": None}, id="a limit taken away"),
        pytest.param({"retry": {"backoff": {"max": "1h"}}}, id="a wait"),
        pytest.param({"pod": {"affinity": {"podAffinity": {}}}}, id="a part of the pods"),
    ],
)
def test_a_job_that_exists_keeps_its_spec(
    server: ApiServer, make: Callable[..., dict[str, Any]], change: dict[str, Any]
) -> None:
    handler = (
        "{type: tensorflow, models: {path: m}, config: {a: {b: 1}}, resources: {limits: {cpu: 1}}, "
        "dependencies: {pip: [a]}}"
    )
    job = make(
        handler=handler,
        input="{items: [1, {a: 2}]}",
        more="batchTimeout: 5s\npod: {affinity: {nodeAffinity: {}}}",
    )
    status, answer = patch(server, job["metadata"]["name"], {"spec": change})
    assert status == 422, answer
    field = next(iter(change))
    said = f"spec.{field}: Forbidden: spec.{field} can't be changed once the job exists; only workers, suspend, "
    assert said in answer["message"]


def test_what_may_change_changes_beside_free_values_that_stay(
    server: ApiServer, make: Callable[..., dict[str, Any]]
) -> None:
    job = make(
        handler="{type: tensorflow, models: {path: m}, config: {a: [1, null]}, resources: {limits: {cpu: 0.5}}}",
        input="{items: [1, {a: null}, [x]]}",
        more="pod: {volumes: [{name: v, emptyDir: {}}]}",
    )
    change = {"workers": 3, "suspend": True, "ttlSecondsAfterFinished": 60, "timeout": "1h"}
    status, answer = patch(server, job["metadata"]["name"], {"spec": change})
    assert status == 200, answer
    assert {name: answer["spec"][name] for name in change} == change
    assert answer["spec"]["input"]["items"] == [1, {"a": None}, ["x"]]
    assert answer["metadata"]["generation"] == 2
    assert patch(server, job["metadata"]["name"], {"spec": {"timeout": None}})[0] == 200
    assert patch(server, job["metadata"]["name"], {"spec": {"workers": 0}})[0] == 422


def status_of(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "observedGeneration": job["metadata"]["generation"],
        "state": "Running",
        "reason": "Because",
        "progress": "529/1000",
        "rate": "12.4/s",
        "estimatedCompletionTime": "2030-01-31T12:00:00Z",
        "batches": {"total": 1000, "succeeded": 522, "failed": 7},
        "workers": {"desired": 4, "ready": 3},
        "failures": [{"batch": 1, "attempts": 3, "error": "no", "time": "2025-01-31T12:00:00.5+00:00"}],
        "conditions": [
            {"type": "Enqueued", "status": "True", "reason": "R", "lastTransitionTime": "2025-01-31T12:00:00Z"}
        ],
    }


def test_the_status_is_written_apart_from_the_spec(server: ApiServer, make: Callable[..., dict[str, Any]]) -> None:
    job = make()
    name = job["metadata"]["name"]
    status, ignored = patch(server, name, {"status": status_of(job)})
    assert status == 200
    assert "status" not in ignored
    status, written = patch(server, name, {"status": status_of(job), "spec": {"workers": 9}}, "/status")
    assert status == 200, written
    assert written["spec"]["workers"] == 1
    assert written["metadata"]["generation"] == 1
    read = BatchJob.model_validate(written).status
    assert read == BatchJob.model_validate(job | {"status": status_of(job)}).status


def test_a_status_of_another_form_is_refused(server: ApiServer, make: Callable[..., dict[str, Any]]) -> None:
    name = make()["metadata"]["name"]
    for wrong in ({"batches": {"failed": -1}}, {"conditions": [{"type": "Failed"}]}, {"startTime": "yesterday"}):
        assert patch(server, name, {"status": wrong}, "/status")[0] == 422, wrong


def test_a_state_of_a_newer_operator_is_taken(server: ApiServer, make: Callable[..., dict[str, Any]]) -> None:
    assert patch(server, make()["metadata"]["name"], {"status": {"state": "Dreaming"}}, "/status")[0] == 200


def test_kubectl_scales_a_job_within_its_bounds(server: ApiServer, make: Callable[..., dict[str, Any]]) -> None:
    job = make()
    name = job["metadata"]["name"]
    patch(server, name, {"status": status_of(job)}, "/status")
    scaled = server.kubectl("scale", f"bj/{name}", "--replicas=7")
    assert scaled.returncode == 0, scaled.stderr
    _, scale = server.request("GET", f"{JOBS}/{name}/scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (7, 3)
    stopped = server.kubectl("scale", f"bj/{name}", "--replicas=0")
    assert stopped.returncode != 0
    assert "spec.workers" in stopped.stderr


def test_kubectl_get_shows_how_jobs_go(server: ApiServer, make: Callable[..., dict[str, Any]]) -> None:
    job = make()
    name = job["metadata"]["name"]
    patch(server, name, {"status": status_of(job)}, "/status")
    head, row = server.kubectl("get", "batchjobs", name).stdout.splitlines()
    assert head.split() == ["NAME", "STATE", "PROGRESS", "FAILED", "WORKERS", "AGE"]
    assert row.split()[:5] == [name, "Running", "529/1000", "7", "3"]
    head, row = server.kubectl("get", "bj", name, "-o", "wide").stdout.splitlines()
    assert head.split()[6:] == ["RATE", "ETA", "REASON"]
    assert row.split()[6:] == ["12.4/s", "2030-01-31T12:00:00Z", "Because"]
    assert name in server.kubectl("get", "all").stdout


def test_kubectl_explains_the_fields(server: ApiServer) -> None:
    explained = server.kubectl("explain", "batchjob.spec.handler.models.paths.name").stdout
    assert "Name that the handler passes as `model_name`. Unique in the job." in explained
