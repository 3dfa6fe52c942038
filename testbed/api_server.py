"""Run a real etcd and kube-apiserver on free loopback ports, ready in seconds: ``python testbed/api_server.py``.

For what needs an API server and no pods: custom resources, server-side apply, watches, dry runs of manifests. No
root, no namespaces, no controllers; so namespaces never end, and pods are stored and never run. Everything lives in
one folder and goes with the process that started it. Apart from the whole node's scripts, which need root and Linux.
"""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "testbed"  # noqa: S105 - of a server that listens on loopback for the length of a test
USER = "admin"
_STARTS = 3  # a port that was free may be taken before its server listens


def bin_folder() -> Path:
    """Return where `make cluster-build` puts the components."""
    return Path(os.environ.get("CLUSTER_DIR") or ROOT / ".work" / "cluster") / "bin"


def missing() -> str:
    """Return what is missing to run a server and how to get it, empty when nothing is."""
    if not (bin_folder() / "kube-apiserver").exists():
        return "the API server is not built: make cluster-build (minutes once, needs Go)"
    return "" if shutil.which("openssl") else "openssl is not on PATH"


@dataclass
class ApiServer:
    """A running API server. ``kubeconfig`` is a file that kubectl and client libraries take, with every right."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """The file with its address, certificate and token."""
        return self.folder / "kubeconfig"

    def request(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and the object answered. A ``body`` of text is sent as it is."""
        data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind, "Accept": "application/json"}
        asked = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)  # noqa: S310 - our https
        context = ssl.create_default_context(cafile=str(self.folder / "pki" / "apiserver.crt"))
        try:
            with urllib.request.urlopen(asked, context=context, timeout=30) as answer:  # noqa: S310
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the built kubectl against this server."""
        command = [str(bin_folder() / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        home = {**os.environ, "HOME": str(self.folder)}  # its discovery cache is per server
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=home)  # noqa: PLW1510

    def stop(self) -> None:
        """End both processes at once: nothing of them is kept."""
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.wait()


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        value = raw.decode(errors="replace")
    return value if isinstance(value, dict) else {"text": value}


@contextlib.contextmanager
def running(folder: Path, *flags: str) -> Iterator[ApiServer]:
    """Run a server with its state below ``folder``; ``flags`` are more of kube-apiserver's.

    Raises RuntimeError with the log's end when it doesn't start.
    """
    for attempt in range(_STARTS):
        state = folder / f"start-{attempt}"
        state.mkdir(parents=True)
        try:
            server = _started(state, flags)
        except ChildProcessError as error:
            if "address already in use" not in str(error) or attempt + 1 == _STARTS:
                raise RuntimeError(str(error)) from error
            continue
        try:
            yield server
        finally:
            server.stop()
        return


def _started(state: Path, flags: Sequence[str]) -> ApiServer:
    peers, clients, port = _free_ports(3)
    server = ApiServer(state, port)
    _write_credentials(server)
    store = f"http://127.0.0.1:{clients}"
    try:
        _run(
            server,
            "etcd",
            f"--data-dir={state / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-cluster=default=http://127.0.0.1:{peers}",
            "--log-level=error",
        )
        _run(
            server,
            "kube-apiserver",
            f"--etcd-servers={store}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={state / 'pki'}",  # makes its own certificate there, for 127.0.0.1
            f"--token-auth-file={state / 'tokens.csv'}",
            f"--service-account-key-file={state / 'accounts.key'}",
            f"--service-account-signing-key-file={state / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",  # nobody comes by the service's address
            "--disable-admission-plugins=ServiceAccount",  # no controller makes accounts, and pods would be refused
            *flags,
        )
        _wait_until_ready(server)
    except BaseException:
        server.stop()
        raise
    return server


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _write_credentials(server: ApiServer) -> None:
    key = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"]
    subprocess.run([*key, "-out", str(server.folder / "accounts.key")], check=True, capture_output=True)
    (server.folder / "tokens.csv").write_text(f"{TOKEN},{USER},{USER},system:masters\n")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "testbed",
                "cluster": {"server": server.url, "certificate-authority": str(server.folder / "pki/apiserver.crt")},
            }
        ],
        "users": [{"name": USER, "user": {"token": TOKEN}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": USER, "namespace": "default"}}],
        "current-context": "testbed",
    }
    server.kubeconfig.write_text(json.dumps(config))  # JSON is YAML
    server.kubeconfig.chmod(0o600)


def _run(server: ApiServer, component: str, *flags: str) -> None:
    """Start a component that ends with this process, however that ends."""
    command = [str(bin_folder() / component), *flags]
    if tie := shutil.which("setpriv"):  # not on macOS, where an orphan is the price of a killed test run
        command = [tie, "--pdeathsig", "KILL", *command]
    with (server.folder / f"{component}.log").open("wb") as log:
        server.processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=server.folder))


def _wait_until_ready(server: ApiServer, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while True:
        for process, component in zip(server.processes, ("etcd", "kube-apiserver"), strict=True):
            if process.poll() is not None:
                raise ChildProcessError(f"{component} ended with {process.returncode}:\n{_tail(server, component)}")
        with contextlib.suppress(OSError):  # not listening yet, or no certificate yet
            if (
                server.request("GET", "/readyz")[0] == 200
                and server.request("GET", "/api/v1/namespaces/default")[0] == 200
            ):
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"not ready after {seconds:g} s:\n{_tail(server, 'kube-apiserver')}")
        time.sleep(0.05)


def _tail(server: ApiServer, component: str) -> str:
    return "\n".join((server.folder / f"{component}.log").read_text(errors="replace").splitlines()[-20:])


def main() -> int:
    """Run a server until Enter or Ctrl-C, and say how to reach it."""
    if what := missing():
        sys.stderr.write(f"{what}\n")
        return 1
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batchyard-api-") as folder, running(Path(folder)) as server:
        sys.stdout.write(f"# ready after {time.monotonic() - start:.1f} s; ends with Enter or Ctrl-C\n")
        sys.stdout.write(f"export KUBECONFIG={server.kubeconfig}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.readline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
