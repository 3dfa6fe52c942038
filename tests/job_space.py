"""A namespace of one end-to-end test: its BatchJobs, their pods, and a volume for what they write."""

import json
from collections.abc import Callable
from typing import Any

from cluster_harness import PATIENCE, Cluster, Node, Object, until


class Space:
    """A namespace of one test, in which Pod Security "restricted" is enforced."""

    def __init__(self, cluster: Cluster, node: Node, name: str) -> None:
        self.cluster = cluster
        self.node = node
        self.name = name
        enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": enforced}})

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, stdin=stdin)

    def submit(self, name: str, handler: str, /, **spec: Any) -> None:
        """Apply a BatchJob; ``handler`` is handler.py unless the spec names a handler of its own."""
        given = {"type": "python", "path": "handler.py", "project": {"inline": {"handler.py": handler}}}
        given.update(spec.pop("handler", {}))
        manifest = {
            "apiVersion": "batchyard.dev/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"handler": given, **spec},
        }
        self.cluster.apply(manifest)

    def job(self, name: str) -> Object | None:
        """Return the BatchJob as it is."""
        return self.cluster.get(f"/apis/batchyard.dev/v1alpha1/namespaces/{self.name}/batchjobs/{name}")

    def status(self, name: str) -> Object:
        """Return its status, {} as long as there is none."""
        job = self.job(name)
        assert job, f"there is no BatchJob {name}"
        status: Object = job.get("status") or {}
        return status

    def wait(self, name: str, wanted: Callable[[Object], Any], what: str, patience: float = PATIENCE) -> Object:
        """Return the status once ``wanted`` is true of it."""
        seen: Object = {}

        def look() -> Object | None:
            nonlocal seen
            seen = self.status(name)
            return seen if seen and wanted(seen) else None

        try:
            found: Object = until(look, f"{name}: {what}", patience)
        except AssertionError as error:
            raise AssertionError(f"{error}; its status is {json.dumps(seen, indent=1)}") from None
        return found

    def ended(self, name: str, patience: float = PATIENCE) -> Object:
        """Return the status once the job has ended."""
        over = ("Succeeded", "CompletedWithFailures", "Failed", "Cancelled")
        return self.wait(name, lambda status: status.get("state") in over, "a terminal state", patience)

    def settled(self, name: str, least: int, patience: float = PATIENCE) -> Object:
        """Return the status once this many batches are settled."""
        return self.wait(name, lambda status: settled(status) >= least, f"{least} batches settled", patience)

    def pods(self, job: str, component: str = "worker") -> list[Object]:
        """Return a job's pods, by name."""
        found = self.cluster.pods(self.name, f"batchyard.dev/job={job},app.kubernetes.io/component={component}")
        return sorted(found, key=lambda pod: pod["metadata"]["name"])

    def running(self, job: str, component: str = "worker") -> Object:
        """Return a pod of the job whose handler (or enqueuer) runs."""

        def look() -> Object | None:
            for pod in self.pods(job, component):
                states = [one.get("state", {}) for one in pod["status"].get("containerStatuses", [])]
                if "deletionTimestamp" not in pod["metadata"] and states and "running" in states[0]:
                    return pod
            return None

        pod: Object = until(look, f"a running {component} of {job}", every=0.2)
        return pod

    def log(self, job: str) -> str:
        """Return what the job's pods that are still there wrote, as a user reads it."""
        return self.kubectl("logs", "-l", f"batchyard.dev/job={job}", "--tail=-1", "--prefix")

    def events(self, job: str) -> list[str]:
        """Return the reasons of the BatchJob's events, oldest first."""
        listed = self.cluster.items(f"/api/v1/namespaces/{self.name}/events")
        return [one["reason"] for one in listed if one["involvedObject"].get("name") == job]

    def volume(self) -> Object:
        """Make a volume of the node's disk that pods may write to; return it as an entry of `pod.volumes`."""
        self.node.folder(self.name)
        claim = {"name": "results", "namespace": self.name}
        size = {"storage": "1Gi"}
        shared = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        path = {"path": f"{Node.FOLDER}/{self.name}"}
        back = {"capacity": size, "hostPath": path, "claimRef": claim, "persistentVolumeReclaimPolicy": "Retain"}
        asked = {"volumeName": self.name, "resources": {"requests": size}}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": self.name}, "spec": back | shared},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim, "spec": asked | shared},
        )
        return {"name": "results", "persistentVolumeClaim": {"claimName": "results"}}

    def results(self) -> dict[str, str]:
        """Return the files of the volume, by their path in it."""
        return self.node.files(self.name)

    def close(self) -> None:
        """Delete the jobs, then the namespace: one that ends while Jobs run would never be gone."""
        self.kubectl("delete", "batchjobs", "--all", "--timeout=180s")
        self.cluster.kubectl("delete", "namespace", self.name, "--wait=false")
        self.cluster.kubectl("delete", "persistentvolume", self.name, "--ignore-not-found", "--wait=false")


def settled(status: Object) -> int:
    """Return how many batches a status says succeeded or failed for good."""
    batches = status.get("batches") or {}
    return int(batches.get("succeeded", 0)) + int(batches.get("failed", 0))


def condition(status: Object, kind: str) -> Object:
    """Return a condition, {} when it isn't there."""
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})
