"""A real NATS server takes the chart's configuration and credentials, and nobody else's."""

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import nats_server
import pytest
from batchyard.queue.jetstream import JetStreamQueue
from batchyard.queue.port import QueueUnavailable
from chart_harness import VALUES, Helm, Object, one

T = TypeVar("T")
OURS = [path for path in VALUES if not path.stem.startswith("own-servers")]
NAME = "yard-batchyard-nats"


@pytest.fixture(autouse=True)
def _needs_nats() -> None:
    if what := nats_server.missing():
        pytest.skip(what)


def free_port() -> int:
    with socket.socket() as one_socket:
        one_socket.bind(("127.0.0.1", 0))
        port: int = one_socket.getsockname()[1]
        return port


def environment(objects: list[Object], secrets: dict[str, dict[str, str]], pod: str) -> dict[str, str]:
    """What the kubelet puts into the environment of the server's container."""
    container = one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    values: dict[str, str] = {}
    for variable in container["env"]:
        source = variable.get("valueFrom", {})
        if key := source.get("secretKeyRef"):
            value = secrets[key["name"]][key["key"]]
        elif source:
            assert source == {"fieldRef": {"fieldPath": "metadata.name"}}
            value = pod
        else:
            value = re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], variable["value"])
        values[variable["name"]] = value
    return values


def secrets_of(objects: list[Object]) -> dict[str, dict[str, str]]:
    """The credentials that the chart made, as text."""
    return {
        o["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in o["data"].items()}
        for o in objects
        if o["kind"] == "Secret"
    }


class Server:
    """One server with the chart's configuration, its ports and folders moved to where a test may have them."""

    def __init__(self, folder: Path, objects: list[Object], env: dict[str, str], ports: dict[int, int]) -> None:
        self.ports = ports
        folder.mkdir()
        source = one(objects, "StatefulSet")["metadata"]["name"]
        text = one(objects, "ConfigMap", source)["data"]["nats.conf"]
        moved = {"/data": str(folder / "data"), "/run/nats": str(folder)}
        for before, after in moved.items():
            assert before in text
            text = text.replace(f'"{before}', f'"{after}')
        for before, after_port in ports.items():
            assert text.count(f"port: {before}\n") == 1
            text = text.replace(f"port: {before}\n", f"port: {after_port}\n")
        self.config = folder / "nats.conf"
        self.config.write_text(f"host: 127.0.0.1\n{text}\n")
        self.log = folder / "log"
        self._command = [str(nats_server.binary()), "--config", str(self.config)]
        self._env = {"PATH": os.environ["PATH"], **env}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"nats://127.0.0.1:{self.ports[4222]}"

    def check(self) -> str:
        """What `nats-server -t` says of the configuration, empty when it is good."""
        said = subprocess.run([*self._command, "-t"], capture_output=True, text=True, env=self._env, timeout=30)
        return "" if said.returncode == 0 else said.stderr

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._env)

    def answers(self, path: str) -> dict[str, Any]:
        """Return what the monitor answers, an empty object when it says that not all is well."""
        with contextlib.suppress(urllib.error.URLError):
            url = f"http://127.0.0.1:{self.ports[8222]}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        return {}

    def wait_until(self, is_so: Callable[[], object]) -> None:
        until = time.monotonic() + 60
        while not is_so():
            assert self.process
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    """Servers that are gone after the test."""
    made: list[Server] = []
    yield made
    for server in made:
        server.close()


def single(
    tmp_path: Path, objects: list[Object], secrets: dict[str, dict[str, str]], servers: list[Server]
) -> Server:
    """A server that serves, with the credentials of the chart's Secret or of the user's own."""
    ports = {4222: free_port(), 8222: free_port()}
    server = Server(tmp_path / "nats", objects, environment(objects, secrets, f"{NAME}-0"), ports)
    servers.append(server)
    server.start()
    server.wait_until(lambda: server.answers("/healthz?js-server-only=true"))
    return server


def connects(address: str, **credentials: str) -> bool:
    """Whether a client with these fields in its CONNECT is let in."""
    host, port = address.removeprefix("nats://").split(":")
    fields = {"verbose": False, "pedantic": False, "lang": "test", "version": "1", **credentials}
    with socket.create_connection((host, int(port)), timeout=10) as client, client.makefile("rb") as answers:
        assert answers.readline().startswith(b"INFO ")
        client.sendall(f"CONNECT {json.dumps(fields)}\r\nPING\r\n".encode())
        answer = answers.readline().decode().strip()
    assert answer in ("PONG", "-ERR 'Authorization Violation'"), answer
    return answer == "PONG"


@pytest.mark.parametrize("values", OURS, ids=lambda path: path.stem)
def test_nats_takes_the_configuration_of(helm: Helm, tmp_path: Path, values: Path) -> None:
    objects = helm.render("--values", values)
    secrets = {"team-nats": {"user": "us", "password": "ours"}, **secrets_of(objects)}
    env = environment(objects, secrets, f"{NAME}-0")
    server = Server(tmp_path / "nats", objects, env, {4222: free_port(), 8222: free_port()})
    assert server.check() == ""


def test_the_generated_credentials_open_the_queue_and_nothing_else_does(
    helm: Helm, tmp_path: Path, servers: list[Server]
) -> None:
    objects = helm.render()
    secrets = secrets_of(objects)
    server = single(tmp_path, objects, secrets, servers)
    ours = secrets[NAME]
    assert connects(server.address, user=ours["user"], **{"pass": ours["password"]})
    assert not connects(server.address)
    assert not connects(server.address, user=ours["user"], **{"pass": ours["password"][:-1]})
    assert not connects(server.address, user="", **{"pass": ""})
    assert not connects(server.address, auth_token=ours["password"])


@pytest.mark.parametrize(
    "password",
    [
        pytest.param("12345678", id="a number"),
        pytest.param("1e5", id="a number with an exponent"),
        pytest.param("true", id="a truth value"),
        pytest.param("two words $HOME {", id="what has a meaning in a configuration"),
        pytest.param('quo"te\\n', id="a quote and a backslash"),
        pytest.param("größe#:=;//", id="other letters, and comments"),
        pytest.param("5m", id="a size"),
    ],
)
def test_a_password_of_the_users_own_stays_as_it_is(
    helm: Helm, tmp_path: Path, servers: list[Server], password: str
) -> None:
    objects = helm.render("--set=queue.existingSecret=mine")
    assert not secrets_of(objects)
    server = single(tmp_path, objects, {"mine": {"user": "team", "password": password}}, servers)
    assert connects(server.address, user="team", **{"pass": password})
    assert not connects(server.address, user="team", **{"pass": f"{password}x"})


def test_the_server_runs_by_the_values(helm: Helm, tmp_path: Path, servers: list[Server]) -> None:
    flags = ["nats.storage.size=1Gi", "nats.maxPayload=4MB", "nats.syncInterval=always"]
    objects = helm.render(*(f"--set={flag}" for flag in flags))
    server = single(tmp_path, objects, secrets_of(objects), servers)
    about = server.answers("/varz")
    assert about["server_name"] == f"{NAME}-0"
    assert about["max_payload"] == 4 << 20
    assert about["jetstream"]["config"]["max_storage"] == (1 << 30) * 9 // 10
    assert about["jetstream"]["config"]["sync_always"] is True


def test_nats_takes_the_default_message_size_without_a_warning(
    helm: Helm, tmp_path: Path, servers: list[Server]
) -> None:
    objects = helm.render()
    server = single(tmp_path, objects, secrets_of(objects), servers)
    assert server.answers("/varz")["max_payload"] == 8 << 20
    assert "discouraged" not in server.log.read_text()


def cluster(
    tmp_path: Path, objects: list[Object], servers: list[Server], *, stranger: str = ""
) -> dict[str, dict[str, str]]:
    """Start the three servers as their pods do; ``stranger`` is a wrong password that the last one has."""
    ports = [{4222: free_port(), 8222: free_port(), 6222: free_port()} for _ in range(3)]
    secrets = secrets_of(objects)
    for number in range(3):
        known = secrets
        if stranger and number == 2:
            known = {**secrets, f"{NAME}-servers": {"user": "server", "password": stranger}}
        env = environment(objects, known, f"{NAME}-{number}")
        for i in range(3):
            route = re.fullmatch(rf"'nats://server:\w+@{NAME}-{i}\.{NAME}-headless:6222'", env[f"ROUTE_{i}"])
            assert route, env[f"ROUTE_{i}"]
            name_and_port = f"{NAME}-{i}.{NAME}-headless:6222"
            env[f"ROUTE_{i}"] = env[f"ROUTE_{i}"].replace(name_and_port, f"127.0.0.1:{ports[i][6222]}")
        server = Server(tmp_path / f"nats-{number}", objects, env, ports[number])
        servers.append(server)
        server.start()
    return secrets


def keep_at(until: float, ask: Callable[[], T]) -> T:
    """Ask again until the queue is there, as each of its users does."""
    while True:
        try:
            return ask()
        except QueueUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_three_servers_find_each_other_and_keep_a_queue_without_one_of_them(
    helm: Helm, tmp_path: Path, servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = cluster(tmp_path, helm.render("--set=nats.replicas=3"), servers)[NAME]
    for server in servers:
        server.wait_until(lambda: server.answers("/healthz?js-server-only=true"))  # noqa: B023 - called at once
    monkeypatch.setenv("NATS_USER", ours["user"])
    monkeypatch.setenv("NATS_PASSWORD", ours["password"])
    hosts = ",".join(server.address.removeprefix("nats://") for server in servers)
    until = time.monotonic() + 60
    queue = keep_at(until, lambda: JetStreamQueue.create(f"nats://{hosts}/bj-1", replicas=3))
    with contextlib.closing(queue):
        queue.publish(0, [b"1"])
        servers[0].close()
        keep_at(until, lambda: queue.publish(queue.position().published, [b"2"]))
        keep_at(until, lambda: queue.seal(2, 2))
        bodies = []
        while len(bodies) < 2 and time.monotonic() < until:
            for delivery in keep_at(until, lambda: queue.receive(2, 30.0, 5.0)):
                assert keep_at(until, lambda: queue.ack([delivery])) == [True]  # noqa: B023 - called at once
                bodies.append(delivery.body)
        assert bodies == [b"1", b"2"]
        counts = keep_at(until, queue.state).counts
        assert (counts.published, counts.succeeded) == (2, 2)


def test_a_server_with_another_password_is_not_let_in(helm: Helm, tmp_path: Path, servers: list[Server]) -> None:
    cluster(tmp_path, helm.render("--set=nats.replicas=3"), servers, stranger="x")
    servers[0].wait_until(lambda: "Authorization Violation" in servers[2].log.read_text())
    for server in servers[:2]:  # a majority without it
        server.wait_until(lambda: server.answers("/healthz?js-server-only=true"))  # noqa: B023 - called at once
        server.wait_until(lambda: server.answers("/routez")["routes"])  # noqa: B023 - called at once
        names = {route["remote_name"] for route in server.answers("/routez")["routes"]}
        assert f"{NAME}-2" not in names
    assert not servers[2].answers("/routez")["routes"]
    assert servers[2].answers("/healthz?js-enabled-only=true")  # alive: a restart would not help it
