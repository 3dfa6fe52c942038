"""The operator as a real process between a real API server and a real NATS server; the test plays everybody else.

There is no Job controller, no kubelet and no garbage collector: a test writes the status of Jobs, makes pods, and
lets objects go that were deleted.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api_server import ApiServer
from batchyard.api.names import queue_name
from batchyard.queue.jetstream import JetStreamQueue
from nats_server import NatsServer

ROOT = Path(__file__).resolve().parents[1]
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/batchjobs.batchyard.dev"
FINALIZER = "batchyard.dev/queue"
PATIENCE = 60.0
TOKEN = "sesame-of-the-queue"
PYTHON = {"type": "python", "path": "h.py", "project": {"inline": {"h.py": "class Handler: ..."}}}
FILES = {"delimitedFiles": {"paths": ["s3://bucket/in"]}}
STEPS = "application/json-patch+json"

Object = dict[str, Any]


def wait_for(what: str, look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return what `look` returns once it is true."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.03)
    return found


def know_batchjobs(server: ApiServer) -> ApiServer:
    """Give a server our resource."""
    applied = server.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    assert applied.returncode == 0, applied.stderr
    wait_for("BatchJobs", lambda: server.request("GET", "/apis/batchyard.dev/v1alpha1/batchjobs")[0] == 200)
    return server


class Space:
    """One namespace of a server, and the jobs in it."""

    def __init__(self, server: ApiServer, nats: NatsServer, name: str) -> None:
        self.server = server
        self.nats = nats
        self.name = name
        status, answer = server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert status in (201, 409), answer

    # --- objects ---
    def path(self, plural: str, name: str = "") -> str:
        root = {"batchjobs": "/apis/batchyard.dev/v1alpha1", "jobs": "/apis/batch/v1"}.get(plural, "/api/v1")
        return f"{root}/namespaces/{self.name}/{plural}" + (f"/{name}" if name else "")

    def get(self, plural: str, name: str) -> Object | None:
        status, found = self.server.request("GET", self.path(plural, name))
        assert status in (200, 404), found
        return found if status == 200 else None

    def all(self, plural: str) -> list[Object]:
        status, found = self.server.request("GET", self.path(plural))
        assert status == 200, found
        return list(found["items"])

    def post(self, plural: str, body: Object) -> Object:
        status, made = self.server.request("POST", self.path(plural), body)
        assert status == 201, made
        return made

    def patch(self, plural: str, name: str, body: Any, kind: str = "application/merge-patch+json") -> Object:
        status, made = self.server.request("PATCH", self.path(plural, name), body, kind=kind)
        assert status == 200, made
        return made

    def delete(self, plural: str, name: str, **options: Any) -> None:
        status, answer = self.server.request("DELETE", self.path(plural, name), options or None)
        assert status in (200, 202, 404), answer

    # --- jobs ---
    def create(self, name: str = "digits", **spec: Any) -> "Job":
        body = {
            "apiVersion": "batchyard.dev/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": name},
            "spec": {"handler": PYTHON, "input": {"items": [1, 2, 3]}, **spec},
        }
        return Job(self, name, self.post("batchjobs", body)["metadata"]["uid"])

    def events(self, reason: str) -> list[Object]:
        return [event for event in self.all("events") if event["reason"] == reason]


class Job:
    """One BatchJob, as a test sees and moves it."""

    def __init__(self, space: Space, name: str, uid: str) -> None:
        self.space = space
        self.name = name
        self.uid = uid
        self.url = f"{space.nats.address}/{queue_name(uid)}"

    @property
    def object(self) -> Object:
        found = self.space.get("batchjobs", self.name)
        assert found is not None
        return found

    @property
    def status(self) -> Object:
        return self.object.get("status") or {}

    def queue(self) -> JetStreamQueue:
        return JetStreamQueue.open(self.url)

    def workers(self) -> Object | None:
        return self.space.get("jobs", f"{self.name}-workers")

    def children(self) -> dict[str, Object]:
        """Return all children by kind and name."""
        names = [("jobs", "workers"), ("jobs", "enqueuer"), ("configmaps", "job"), ("secrets", "queue")]
        found = {f"{kind}/{name}": self.space.get(kind, f"{self.name}-{name}") for kind, name in names}
        return {name: child for name, child in found.items() if child is not None}

    def versions(self) -> dict[str, str]:
        """Return the resource version of the job and of each child: what was not written keeps its own."""
        found = {"job": self.object, **self.children()}
        return {
            name: f"{each['metadata']['uid']} {each['metadata']['resourceVersion']}" for name, each in found.items()
        }

    def wait(self, what: str, good: Callable[[Object], Any], seconds: float = PATIENCE) -> Object:
        """Wait until the status is good, and return it."""
        try:
            wait_for(what, lambda: good(self.status), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the status: {json.dumps(self.status, indent=1)}") from None
        return self.status

    def wait_for_state(self, state: str, seconds: float = PATIENCE) -> Object:
        return self.wait(f"{self.name} {state}", lambda status: status.get("state") == state, seconds)

    def wait_for_workers(self) -> Object:
        found: Object = wait_for(f"the workers of {self.name}", self.workers)
        return found

    def spec(self, **spec: Any) -> None:
        self.space.patch("batchjobs", self.name, {"spec": spec})

    def condition(self, kind: str) -> Object:
        return next((c for c in self.status.get("conditions", ()) if c["type"] == kind), {})

    # --- what controllers do ---
    def job_status(self, name: str, status: Object) -> None:
        """Play the Job controller."""
        self.space.patch("jobs", f"{self.name}-{name}/status", {"status": status})

    def make_pod(self, name: str, component: str = "worker", status: Object | None = None) -> Object:
        """Play the Job controller and the kubelet: a pod of the job's, with a status."""
        child = "workers" if component == "worker" else "enqueuer"
        owner = self.space.get("jobs", f"{self.name}-{child}")
        assert owner is not None
        metadata = {
            "name": name,
            "labels": {
                "batchyard.dev/job": self.name,
                "batchyard.dev/job-uid": self.uid,
                "app.kubernetes.io/component": component,
            },
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
        spec = {"containers": [{"name": "handler", "image": "none"}], "nodeName": "nowhere"}
        made = self.space.post("pods", {"metadata": metadata, "spec": spec})
        if status is not None:
            self.space.patch("pods", f"{name}/status", {"status": status})
        return made

    def collect(self, kind: str, name: str) -> None:
        """Play the garbage collector: let an object go that is being deleted in the foreground."""
        for pod in self.space.all("pods"):
            if pod["metadata"]["labels"].get("batchyard.dev/job") == self.name:
                self.space.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
        self.space.patch(kind, name, {"metadata": {"finalizers": None}})

    def collect_children(self) -> None:
        """Play the garbage collector for every child Job, once it is being deleted."""
        for name in ("workers", "enqueuer"):
            child = self.space.get("jobs", f"{self.name}-{name}")
            if child is None:
                continue

            def deleting(name: str = name) -> bool:
                now = self.space.get("jobs", f"{self.name}-{name}")
                return now is None or "deletionTimestamp" in now["metadata"]

            wait_for(f"the deletion of {name}", deleting)
            if self.space.get("jobs", f"{self.name}-{name}") is not None:
                self.collect("jobs", f"{self.name}-{name}")


class Operator:
    """The operator's process."""

    def __init__(self, folder: Path, server: ApiServer, nats: NatsServer, **settings: Any) -> None:
        self.folder = folder
        self.server = server
        self.settings = folder / "operator.yaml"
        self.log_file = folder / "operator.log"
        given = {
            "queue": {"url": nats.address, "lease": 5},
            "images": {"handler": "none/handler"},
            "liveness_port": 0,
            "log_level": "DEBUG",
            **settings,
        }
        self.settings.write_text(json.dumps(given))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Operator":
        environment = {**os.environ, "KUBECONFIG": str(self.server.kubeconfig), "NATS_TOKEN": TOKEN}
        command = [sys.executable, "-P", "-X", "dev", "-m", "batchyard_operator", str(self.settings)]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        return self

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def traces(self) -> list[str]:
        """Return the log's entries of bugs, and every line that is no entry at all (a warning of Python's, say)."""
        found = []
        for line in self.log.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                found.append(line)
                continue
            if "trace" in entry:
                found.append(f"{entry['message']}\n{entry['trace']}")
        return found

    def kill(self) -> None:
        """SIGKILL it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM it, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
