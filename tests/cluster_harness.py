"""A cluster as the end-to-end tests use it: kubectl and helm as a user runs them, and plain requests to look.

Looking goes through one `kubectl proxy` on loopback: every way to log in that a kubeconfig knows works, and a look
costs milliseconds. What needs the node itself (killing a container's processes, folders of volumes) is done in one
pod there.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTBED = Path(os.environ.get("CLUSTER_DIR") or ROOT / ".work" / "cluster")
IMAGES = os.environ.get("E2E_IMAGES", "localhost/batchyard-{part}:dev")
"""The images under test, `{part}` for operator, handler, serving, nats and s3."""
PATIENCE = 180.0  # seconds that anything a test waits for may take on a busy machine

Object = dict[str, Any]


def image(part: str) -> str:
    """Return the name of an image under test."""
    return IMAGES.format(part=part)


def tool(name: str) -> str | None:
    """Return the test bed's program, else the one on PATH."""
    built = TESTBED / "bin" / name
    return str(built) if built.exists() else shutil.which(name)


def kubeconfig() -> Path | None:
    """Return the user's kubeconfig, else that of the test bed's node."""
    if given := os.environ.get("KUBECONFIG"):
        return Path(given).resolve()
    ours = TESTBED / "admin.conf"
    return ours if ours.exists() else None


def missing() -> str:
    """Return what is missing to use a cluster and how to get it, empty when nothing is."""
    config = kubeconfig()
    if config is None:
        return (
            "there is no cluster: make images cluster-up (Linux, root), or set KUBECONFIG to one that is disposable"
        )
    for name, target in (("kubectl", "cluster-build"), ("helm", "helm")):
        if tool(name) is None:
            return f"{name} is not on PATH: make {target} (needs Go), or install it"
    command = [str(tool("kubectl")), "--kubeconfig", str(config), "get", "--raw", "/readyz"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if asked.returncode:
        return f"the cluster of {config} doesn't answer ({asked.stderr.strip()}): make cluster-down cluster-up"
    return ""


class Cluster:
    """The cluster that a kubeconfig points at."""

    def __init__(self, config: Path, proxy: str) -> None:
        self._config = config
        self._proxy = proxy

    def run(
        self, *arguments: str, stdin: str | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl or helm to its end, whatever it says."""
        program, *rest = arguments
        env = {**os.environ, "KUBECONFIG": str(self._config)}
        command = [str(tool(program)), *rest]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=600, env=env)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; return what it prints."""
        return self._done("kubectl", *arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        """Run helm; return what it prints."""
        return self._done("helm", *arguments)

    def _done(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Apply objects, as `kubectl apply` does."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects]}))

    def get(self, path: str, **query: str) -> Object | None:
        """Return what the API server has at a path, None when there is nothing."""
        url = f"{self._proxy}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        for left in reversed(range(5)):
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    found: Object = json.load(answer)
                    return found
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 404:
                        return None
                    if error.code < 500 or not left:
                        raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error
            except (urllib.error.URLError, OSError):
                if not left:
                    raise
            time.sleep(1)
        raise AssertionError("not reached")

    def items(self, path: str, labels: str = "") -> list[Object]:
        """Return the objects of a list."""
        listed = self.get(path, **({"labelSelector": labels} if labels else {}))
        return listed["items"] if listed else []

    def post(self, path: str, body: Object) -> None:
        """Create something."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._proxy}{path}", json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass

    def pods(self, namespace: str, labels: str = "") -> list[Object]:
        """Return pods."""
        return self.items(f"/api/v1/namespaces/{namespace}/pods", labels)

    def told(self, namespace: str) -> str:
        """Return what a person would look at after a failure: objects, events, and the newest lines of each log."""
        parts = []
        for command in (
            ["get", "batchjobs,jobs,pods,statefulsets,pvc", "-o", "wide"],
            ["get", "batchjobs", "-o", "yaml"],
            ["describe", "pods"],
            ["get", "events", "--sort-by=.lastTimestamp"],
        ):
            done = self.run("kubectl", "--namespace", namespace, *command)
            parts.append(f"$ kubectl -n {namespace} {' '.join(command)}\n{done.stdout[-12000:]}{done.stderr[-2000:]}")
        for pod in self.pods(namespace):
            name = pod["metadata"]["name"]
            for more in ([], ["--previous"]):
                command = ["--namespace", namespace, "logs", name, "--all-containers", "--prefix", "--tail=40", *more]
                done = self.run("kubectl", *command)
                if done.stdout:
                    parts.append(f"$ kubectl {' '.join(command)}\n{done.stdout[-8000:]}")
        return "\n".join(parts)


def until(look: Callable[[], Any], what: str, patience: float = PATIENCE, every: float = 0.5) -> Any:
    """Return what ``look`` returns once it is true; fails after ``patience`` seconds, saying what did not come."""
    end = time.monotonic() + patience
    while True:
        if found := look():
            return found
        assert time.monotonic() < end, f"this did not come within {patience:.0f} s: {what}"
        time.sleep(every)


@contextlib.contextmanager
def connected(folder: Path) -> Iterator[Cluster]:
    """Yield the cluster; its proxy ends with the block."""
    config = kubeconfig()
    assert config
    log = folder / "proxy.log"
    with log.open("wb") as out:
        command = [str(tool("kubectl")), "--kubeconfig", str(config), "proxy", "--port=0"]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        port = until(lambda: re.search(r"127\.0\.0\.1:(\d+)", log.read_text()), "kubectl proxy", 60, 0.1)
        yield Cluster(config, f"http://127.0.0.1:{port[1]}")
    finally:
        process.kill()
        process.wait()


class Node:
    """A pod on the node that sees its processes and one folder of its disk, as root. One cluster, one node."""

    NAMESPACE = "batchyard-e2e-node"
    FOLDER = "/var/tmp/batchyard-e2e"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        container = {
            "name": "node",
            "image": image("handler"),
            "command": ["python", "-c", "import signal; signal.pause()"],
            "securityContext": {"runAsUser": 0, "runAsGroup": 0},
            "volumeMounts": [{"name": "folder", "mountPath": "/folder"}],
        }
        volume = {"name": "folder", "hostPath": {"path": self.FOLDER, "type": "DirectoryOrCreate"}}
        spec = {
            "hostPID": True,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            "volumes": [volume],
        }
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "node", "namespace": self.NAMESPACE},
                "spec": spec,
            },
        )
        cluster.kubectl("--namespace", self.NAMESPACE, "wait", "pod/node", "--for=condition=Ready", "--timeout=120s")

    def python(self, code: str, *arguments: str, stdin: str | None = None) -> str:
        """Run Python there; return what it prints."""
        command = ["--namespace", self.NAMESPACE, "exec", *(["--stdin"] if stdin is not None else []), "node", "--"]
        return self._cluster.kubectl(*command, "python", "-c", code, *arguments, stdin=stdin)

    def write(self, name: str, text: str) -> None:
        """Write a file that anybody may read, and the folders above it."""
        self.python(_WRITE, f"/folder/{name}", stdin=text)

    def kill(self, pod: Object, container: str) -> None:
        """SIGKILL every process of a container, as an out-of-memory killer or a crash would."""
        killed = self.python(_SIGNAL, _id_of(pod, container), "SIGKILL")
        assert killed.strip(), f"no process of {container} was there to be killed"

    def step(self, pod: Object, container: str, seconds: float) -> None:
        """Let a container's processes run for a moment, then stop them where they are."""
        self.python(_SIGNAL, _id_of(pod, container), "SIGCONT", str(seconds), "SIGSTOP")

    def folder(self, name: str) -> None:
        """Make a folder that anybody may write to."""
        self.python("import os, sys; os.makedirs(sys.argv[1]); os.chmod(sys.argv[1], 0o777)", f"/folder/{name}")

    def files(self, name: str) -> dict[str, str]:
        """Return the text files below a folder, by their path in it."""
        files: dict[str, str] = json.loads(self.python(_FILES, f"/folder/{name}"))
        return files

    def close(self) -> None:
        """Remove the folder, then the pod."""
        self.python("import shutil, glob; [shutil.rmtree(f) for f in glob.glob('/folder/*')]")
        self._cluster.kubectl("delete", "namespace", self.NAMESPACE, "--wait=false")


def _id_of(pod: Object, container: str) -> str:
    status = pod["status"]
    for one in [*status.get("initContainerStatuses", []), *status["containerStatuses"]]:
        if one["name"] == container:
            return str(one["containerID"]).rpartition("/")[2]
    raise AssertionError(f"no container {container} in {status}")


_SIGNAL = """
import os, pathlib, signal, sys, time
for word in sys.argv[2:]:
    if not word.startswith("SIG"):
        time.sleep(float(word))
        continue
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if sys.argv[1] in (process / "cgroup").read_text():
                os.kill(int(process.name), getattr(signal, word))
                print(word, process.name)
        except OSError:
            pass
"""
_WRITE = """
import pathlib, sys
path = pathlib.Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(sys.stdin.read())
"""
_FILES = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
print(json.dumps({str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*") if f.is_file()}))
"""


def require_cluster() -> None:
    """Skip what needs a cluster where there is none; fail where E2E=required says that there must be one."""
    if what := missing():
        if os.environ.get("E2E") == "required":
            pytest.fail(f"the end-to-end tests were asked for, and {what}", pytrace=False)
        pytest.skip(what)
