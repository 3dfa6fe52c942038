"""Containers killed with SIGKILL in mid-run, and an evicted pod: every batch is counted once, whoever dies."""

from collections.abc import Callable
from typing import Any

import pytest
from cluster_harness import Cluster, Node, Object, until
from job_space import Space

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HANDLER = """\
import pathlib, time, uuid
class Handler:
    def __init__(self, config):
        self.config = config
    def handle_batch(self, payload):
        time.sleep(self.config["seconds"])
        if payload[0] % 50 == 7:
            raise ValueError("every 50th is bad")
        return [str(item) for item in payload]
    def on_job_complete(self):
        pathlib.Path(f"/results/complete-{uuid.uuid4()}").write_text("")
"""
MOUNTED = [{"name": "results", "mountPath": "/results"}]


def submit(space: Space, name: str, batches: int, seconds: float = 0.1, **more: Any) -> None:
    spec: dict[str, Any] = {
        "handler": {"config": {"seconds": seconds}},
        "input": {"items": list(range(batches))},
        "output": {"path": "/results/out"},
        "retry": {"maxAttempts": 2, "backoff": {"initial": "100ms"}},
        "pod": {"volumes": [space.volume()], "volumeMounts": MOUNTED},
        "workers": 2,
    }
    space.submit(name, HANDLER, **{**spec, **more})


def check(space: Space, name: str, batches: int) -> None:
    """Every batch was settled once, what should fail failed, and on_job_complete ran once."""
    status = space.ended(name, patience=240)
    bad = [batch for batch in range(batches) if batch % 50 == 7]
    assert status["state"] == "CompletedWithFailures", status
    good = batches - len(bad)
    counted = {"total": batches, "succeeded": good, "failed": len(bad), "running": 0, "pending": 0}
    assert status["batches"] == counted, status
    files = space.results()
    assert len([file for file in files if file.startswith("complete-")]) == 1
    lines = [text for file, text in files.items() if file.startswith("out/parts/")]
    assert len(lines) == good
    assert files["out/errors.jsonl"].count("\n") == len(bad)


def one(pods: list[Object]) -> Object:
    assert len(pods) == 1, pods
    return pods[0]


def restarts(pod: Object, container: str) -> int:
    statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"]["containerStatuses"]]
    return int(next(status["restartCount"] for status in statuses if status["name"] == container))


def test_a_killed_worker_is_replaced(space: Space, node: Node) -> None:
    submit(space, "worker", 300)
    space.settled("worker", 20)
    victim = space.running("worker")
    node.kill(victim, "handler")
    check(space, "worker", 300)
    until(lambda: victim["metadata"]["name"] not in ready(space, "worker"), "the killed pod is not ready any more")


def ready(space: Space, name: str) -> list[str]:
    pods = space.pods(name)
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]


def test_a_killed_model_server_burns_no_batch(space: Space, node: Node) -> None:
    handler = """\
import pathlib, time, uuid
import numpy as np
class Handler:
    def __init__(self, tensorflow_client, config):
        self.model = tensorflow_client
    def handle_batch(self, payload):
        time.sleep(0.1)
        self.model.predict({"image": np.zeros((1, 28, 28), np.float32)})
"""
    space.submit(
        "serving",
        handler,
        handler={"type": "tensorflow", "models": {"path": "/opt/batchyard/examples/digits/model"}},
        input={"items": list(range(200))},
        retry={"maxAttempts": 1},
    )
    space.settled("serving", 20)
    victim = space.running("serving")
    node.kill(victim, "serving")
    status = space.ended("serving", patience=240)
    assert status["batches"] == {"total": 200, "succeeded": 200, "failed": 0, "running": 0, "pending": 0}, status
    assert restarts(one(space.pods("serving")), "serving") == 1


def test_a_killed_operator_finds_everything_again(space: Space, node: Node, cluster: Cluster, release: str) -> None:
    submit(space, "operator", 250)
    space.settled("operator", 10)
    before = operator(cluster, release)
    node.kill(before, "operator")
    check(space, "operator", 250)
    after = operator(cluster, release)
    assert restarts(after, "operator") == restarts(before, "operator") + 1


def operator(cluster: Cluster, release: str) -> Object:
    return one(cluster.pods(release, "app.kubernetes.io/component=operator"))


def test_a_killed_queue_loses_nothing(space: Space, node: Node, cluster: Cluster, release: str) -> None:
    submit(space, "queue", 250)
    space.settled("queue", 10)
    node.kill(one(cluster.pods(release, "app.kubernetes.io/component=nats")), "nats")
    check(space, "queue", 250)


def test_a_killed_enqueuer_goes_on_where_it_was(
    space: Space, node: Node, streams: Callable[[], dict[str, int]]
) -> None:
    items, size = 1_000_000, 100
    volume = space.volume()
    code = "import sys; open(sys.argv[1], 'w').writelines(f'{number}\\n' for number in range(int(sys.argv[2])))"
    node.python(code, f"/folder/{space.name}/items.jsonl", str(items))
    handler = "class Handler:\n    def __init__(self, config): ...\n    def handle_batch(self, payload): ...\n"
    space.submit(
        "enqueuer",
        handler,
        input={"delimitedFiles": {"paths": ["/results/items.jsonl"]}, "batchSize": size},
        pod={"volumes": [volume], "volumeMounts": MOUNTED},
    )
    victim = space.running("enqueuer", "enqueuer")
    job = space.job("enqueuer")
    assert job
    stream = f"bj-{job['metadata']['uid']}-batches"
    node.step(victim, "enqueuer", 0)
    for _ in range(200):  # by small steps, until some batches are there, and not all
        published = streams()[stream]
        if published:
            break
        node.step(victim, "enqueuer", 0.2)
    total = items // size
    assert 0 < published < total
    node.kill(victim, "enqueuer")
    status = space.ended("enqueuer", patience=240)
    assert status["batches"] == {"total": total, "succeeded": total, "failed": 0, "running": 0, "pending": 0}, status
    assert len(space.pods("enqueuer", "enqueuer")) == 2


def test_an_evicted_worker_gives_its_batches_back(space: Space, cluster: Cluster) -> None:
    submit(space, "evicted", 300)
    space.settled("evicted", 20)
    victim = space.running("evicted")["metadata"]["name"]
    path = f"/api/v1/namespaces/{space.name}/pods/{victim}/eviction"
    cluster.post(path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": victim}})
    until(lambda: victim not in ready(space, "evicted"), "the pod is gone")
    check(space, "evicted", 300)
