"""What a user does first: install the chart, apply the example, watch it, delete it, look at results."""

import json
import re

import pytest
from cluster_harness import ROOT, Cluster, until
from job_space import Space, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EXAMPLE = ROOT / "examples" / "in-cluster" / "batchjob.yaml"
ITEMS = "/opt/batchyard/examples/digits/items.jsonl"
MODEL = "/opt/batchyard/examples/digits/model"


def test_the_example_runs_by_apply_and_get_and_delete(space: Space) -> None:
    space.kubectl("apply", "--filename", str(EXAMPLE))
    status = space.ended("digits", patience=300)
    assert status["state"] == "Succeeded", status
    assert status["batches"] == {"total": 60, "succeeded": 60, "failed": 0, "running": 0, "pending": 0}
    assert condition(status, "Complete")["status"] == "True"

    header, row = space.kubectl("get", "batchjobs").splitlines()
    assert header.split() == ["NAME", "STATE", "PROGRESS", "FAILED", "WORKERS", "AGE"]
    assert row.split()[:4] == ["digits", "Succeeded", "60/60", "0"]
    described = space.kubectl("describe", "batchjob", "digits")
    assert "AllBatchesSucceeded" in described
    told = re.findall(r"accuracy: ([\d,]+) of 3,000 images", space.log("digits"))
    assert len(told) == 1, "on_job_complete ran once, in one worker"
    assert int(told[0].replace(",", "")) > 2700

    space.kubectl("delete", "batchjob", "digits", "--timeout=120s")
    until(lambda: not space.pods("digits"), "the pods are gone")


def test_results_of_a_tensorflow_job_are_there_once_an_item(space: Space) -> None:
    handler = (ROOT / "examples" / "digits" / "handler.py").read_text()
    space.submit(
        "results",
        handler,
        handler={"type": "tensorflow", "models": {"path": MODEL}, "config": {"digits": list(range(10))}},
        input={"delimitedFiles": {"paths": [ITEMS]}, "batchSize": 70},
        output={"path": "/results/out", "key": "id"},
        pod={"volumes": [space.volume()], "volumeMounts": [{"name": "results", "mountPath": "/results"}]},
        workers=2,
    )
    status = space.ended("results", patience=300)
    assert status["batches"] == {"total": 43, "succeeded": 43, "failed": 0, "running": 0, "pending": 0}, status
    files = space.results()
    parts = sorted(name for name in files if name.startswith("out/parts/") and name.endswith(".jsonl"))
    assert len(parts) == 43
    lines = [json.loads(line) for part in parts for line in files[part].splitlines()]
    assert [line["key"] for line in lines] == [f"digit-{number:04d}" for number in range(3000)]
    expected = [
        json.loads(line)["expected"] for line in (ROOT / "examples/digits/items.jsonl").read_text().splitlines()
    ]
    right = sum(line["result"]["digit"] == digit for line, digit in zip(lines, expected, strict=True))
    assert right > 2700


def test_namespaces_of_these_tests_refuse_pods_that_are_not_restricted(space: Space) -> None:
    run = ("kubectl", "--namespace", space.name, "run", "root", "--image=localhost/any:1", "--privileged")
    refused = space.cluster.run(*run)
    assert refused.returncode != 0
    assert "violates PodSecurity" in refused.stderr


def test_several_jobs_run_at_once_and_each_is_counted_by_itself(space: Space) -> None:
    handler = (
        "import time\n"
        "class Handler:\n"
        "    def __init__(self, config):\n"
        "        self.bad = config['bad']\n"
        "    def handle_batch(self, payload):\n"
        "        time.sleep(0.1)\n"
        "        if payload[0] in self.bad:\n"
        "            raise ValueError('this one is bad')\n"
    )
    for number in range(5):
        space.submit(
            f"many-{number}",
            handler,
            handler={"config": {"bad": list(range(number))}},
            input={"items": list(range(20 + number))},
            retry={"maxAttempts": 1},
        )
    for number in range(5):
        status = space.ended(f"many-{number}")
        total = 20 + number
        counted = {"total": total, "succeeded": total - number, "failed": number, "running": 0, "pending": 0}
        assert status["batches"] == counted, status
        assert status["state"] == ("CompletedWithFailures" if number else "Succeeded")
        assert len(status.get("failures", [])) == number


def test_helm_test_runs_a_job(cluster: Cluster, release: str) -> None:
    told = cluster.run("helm", "test", "batchyard", "--namespace", release, "--logs", "--timeout", "5m")
    assert told.returncode == 0, told.stdout + told.stderr + cluster.told(release)
    cluster.kubectl("--namespace", release, "delete", "batchjobs", "--all", "--timeout=120s")
