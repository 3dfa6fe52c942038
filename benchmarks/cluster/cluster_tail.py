"""A job's first and last moments on a real node: how soon its first batch runs, how soon its end is told.

Needs the test bed or another disposable cluster (KUBECONFIG) and the images; installs the chart for the length of the
program. Two measurements, over some rounds each:

- apply to first batch, against a plain Job with the same image that only prints the time. The two take turns, and
  medians are compared.
- the end of the last batch (the handler prints the time) to the moment at which a watch shows a terminal state. Jobs
  of short batches, and one job a round whose single batch takes longer than any of the operator's waits. The worst
  round counts.

All clocks are this machine's, so the cluster's node must be on it.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path += [str(HERE.parent), str(ROOT / "tests")]

from cluster_harness import Cluster, connected, image, kubeconfig, missing, tool, until  # noqa: E402 - behind the path
from report import Claim, report  # noqa: E402 - behind the path

ROUNDS = 5
SYSTEM = "batchyard-system"
SPACE = "batchyard-bench"
ENDED = ("Succeeded", "CompletedWithFailures", "Failed", "Cancelled")
HANDLER = """import time
class Handler:
    def __init__(self, config):
        self.seconds = config["seconds"]
    def handle_batch(self, payload):
        print("begins", time.time(), flush=True)
        time.sleep(self.seconds)
        print("ends", time.time(), flush=True)
"""


def batch_job(name: str, items: int, seconds: float) -> dict[str, Any]:
    handler = {"type": "python", "path": "handler.py", "config": {"seconds": seconds}}
    return {
        "apiVersion": "batchyard.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {
            "handler": {**handler, "project": {"inline": {"handler.py": HANDLER}}},
            "input": {"items": list(range(items))},
        },
    }


def plain_job(name: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image("handler"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", "import time; print('begins', time.time(), flush=True)"],
    }
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"template": template},
    }


def times(cluster: Cluster, selector: str, word: str) -> list[float]:
    """Return the times that pods printed behind a word."""
    log = cluster.run("kubectl", "--namespace", SPACE, "logs", "--selector", selector, "--tail=-1").stdout
    return [float(found) for found in re.findall(rf"{word} (\d+\.\d+)", log)]


class Watch:
    """Follows BatchJobs through `kubectl get --watch`, which prints each object as the API server sends it."""

    def __init__(self) -> None:
        command = [str(tool("kubectl")), "--kubeconfig", str(kubeconfig()), "--namespace", SPACE, "get", "batchjobs"]
        self._process = subprocess.Popen([*command, "--watch", "--output", "json"], stdout=subprocess.PIPE, text=True)
        self._text = ""

    def until_ended(self, name: str) -> float:
        """Return when a terminal state of the job arrived, unix seconds."""
        decoder = json.JSONDecoder()
        assert self._process.stdout
        for line in self._process.stdout:
            self._text += line
            if line != "}\n":
                continue
            job, end = decoder.raw_decode(self._text)
            self._text = self._text[end:].lstrip()
            if job["metadata"]["name"] == name and (job.get("status") or {}).get("state") in ENDED:
                if job["status"]["state"] != "Succeeded":
                    sys.exit(f"{name} ended as {job['status']}")
                return time.time()
        sys.exit("kubectl's watch ended")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def first_batch(cluster: Cluster, number: int) -> tuple[float, float]:
    """Return the seconds from apply to the first batch, and from apply to a plain Job's first line."""
    found = []
    for name, job, label in (
        (f"first-{number}", batch_job(f"first-{number}", 1, 0), "batchyard.dev/job"),
        (f"plain-{number}", plain_job(f"plain-{number}"), "batch.kubernetes.io/job-name"),
    ):
        since = time.time()
        cluster.apply(job)
        printed = until(lambda n=name, k=label: times(cluster, f"{k}={n}", "begins"), f"the first line of {name}")
        found.append(min(printed) - since)
        kind = "batchjob" if name.startswith("first") else "job"
        cluster.kubectl("--namespace", SPACE, "delete", kind, name, "--timeout=120s")
    return found[0], found[1]


def tail(cluster: Cluster, name: str, items: int, seconds: float) -> float:
    """Return the seconds from the end of a job's last batch to its terminal state."""
    watch = Watch()
    cluster.apply(batch_job(name, items, seconds))
    told = watch.until_ended(name)
    watch.close()
    last = max(times(cluster, f"batchyard.dev/job={name}", "ends"))
    cluster.kubectl("--namespace", SPACE, "delete", "batchjob", name, "--timeout=120s")
    return told - last


def main() -> None:
    if why := missing():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder, connected(Path(folder)) as cluster:
        values = ["--values", str(ROOT / "testbed" / "values.yaml")]
        where = ["--namespace", SYSTEM, "--create-namespace", "--take-ownership"]
        chart = str(ROOT / "charts" / "batchyard")
        cluster.helm("upgrade", "--install", "batchyard", chart, *where, *values, "--wait", "--timeout", "3m")
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
        try:
            measure(cluster)
        finally:
            cluster.run("kubectl", "--namespace", SPACE, "delete", "batchjobs,jobs", "--all", "--timeout=120s")
            cluster.run("kubectl", "delete", "namespace", SPACE)
            cluster.run("helm", "uninstall", "batchyard", "--namespace", SYSTEM, "--wait")


def measure(cluster: Cluster) -> None:
    first_batch(cluster, 0)  # once before: images unpacked, caches warm
    rounds = [first_batch(cluster, number) for number in range(1, ROUNDS + 1)]
    ours, plain = (statistics.median(values) for values in zip(*rounds, strict=True))
    for number, (job, bare) in enumerate(rounds, 1):
        print(
            f"round {number}: first batch after {job:.2f} s, a plain Job's first line after {bare:.2f} s", flush=True
        )
    short = [tail(cluster, f"short-{number}", 100, 0.02) for number in range(ROUNDS)]
    long = [tail(cluster, f"long-{number}", 1, 12) for number in range(ROUNDS)]
    print(f"tails of short batches: {', '.join(f'{value:.2f}' for value in short)} s")
    print(f"tails of one batch of 12 s: {', '.join(f'{value:.2f}' for value in long)} s")
    report(
        [
            Claim("plain Job: apply to first line", plain, "s", "<=", None),
            Claim("BatchJob: apply to first batch, over a plain Job", ours - plain, "s", "<=", 1.0),
            Claim("BatchJob: last batch's end to terminal state, short", max(short), "s", "<=", 2.0),
            Claim("BatchJob: last batch's end to terminal state, 12 s", max(long), "s", "<=", 2.0),
        ]
    )


if __name__ == "__main__":
    main()
