"""The operator with 1,000 running BatchJobs on a real API server and a real NATS server: memory, CPU, status writes.

No pods are needed for that, so none run: etcd, API server and nats-server are started on loopback for the length of
the program, and this program plays the enqueuers and workers. "At rest" nothing changes but the clock; "changing" one
batch of every queue is settled again and again: each second, or as fast as this program can on what the others leave.

`python cluster_operator.py [JOBS]`, 1,000 by default.
"""

import http.client
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path += [str(HERE.parent), str(ROOT / "tests"), str(ROOT / "testbed")]

import api_server as api_servers  # noqa: E402 - behind the path
import psutil  # noqa: E402 - behind the path
from batchyard.api.names import queue_name  # noqa: E402 - behind the path
from batchyard.queue.jetstream import JetStreamQueue  # noqa: E402 - behind the path
from nats_server import NatsServer, missing  # noqa: E402 - behind the path
from report import Claim, report  # noqa: E402 - behind the path

JOBS = "/apis/batchyard.dev/v1alpha1/namespaces/default/batchjobs"
WINDOW = 30.0  # seconds of each measurement
ONE_MORE = 5  # jobs applied one after another to time a first status
HANDLER = """class Handler:
    def __init__(self, config):
        pass

    def handle_batch(self, payload):
        pass
"""


def manifest(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "batchyard.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name},
        "spec": {
            "handler": {"type": "python", "path": "handler.py", "project": {"inline": {"handler.py": HANDLER}}},
            "input": {"items": [1]},
        },
    }


@dataclass
class Writes:
    """Counts the changes of each BatchJob's status as a watch shows them."""

    server: api_servers.ApiServer
    seen: Counter[str] = field(default_factory=Counter)
    started: dict[str, float] = field(default_factory=dict)
    _last: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        context = ssl.create_default_context(cafile=str(self.server.folder / "pki" / "apiserver.crt"))
        while True:
            with suppress(OSError, http.client.HTTPException, ValueError):
                line = http.client.HTTPSConnection("127.0.0.1", self.server.port, context=context)
                line.request("GET", f"{JOBS}?watch=1", headers={"Authorization": f"Bearer {api_servers.TOKEN}"})
                answer = line.getresponse()
                while raw := answer.readline():
                    self._take(json.loads(raw)["object"])

    def _take(self, job: dict[str, Any]) -> None:
        name, status = job["metadata"]["name"], job.get("status")
        if status and status != self._last.get(name):
            self._last[name] = status
            self.seen[name] += 1
            self.started.setdefault(name, time.monotonic())
            if status.get("startTime"):
                self.started.setdefault(f"{name}/made", time.monotonic())


def wait_for(what: str, done: Callable[[], bool], seconds: float = 300) -> float:
    begin = time.monotonic()
    while not done():
        if time.monotonic() - begin > seconds:
            sys.exit(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.01)
    return time.monotonic() - begin


def create(server: api_servers.ApiServer, name: str) -> str:
    status, job = server.request("POST", JOBS, manifest(name))
    if status != 201:
        sys.exit(f"the API server answered {status}: {job.get('message')}")
    return str(job["metadata"]["uid"])


def first_status(server: api_servers.ApiServer, writes: Writes, name: str) -> float:
    """Apply one more job and return the seconds from the API server's answer to its first status."""
    create(server, name)
    since = time.monotonic()
    wait_for(f"the first status of {name}", lambda: name in writes.started, 60)
    return max(0.0, writes.started[name] - since)


@dataclass
class Measured:
    """Memory in MB, CPU in percent of a core, status writes a second, seconds to a first status."""

    rss: float
    cpu: float
    writes: float
    busiest: float
    first: float


def measure(operator: psutil.Process, writes: Writes, server: api_servers.ApiServer, name: str) -> Measured:
    """Look at the operator for a while; then apply some more jobs, one after another."""
    before, cpu, begin = Counter(writes.seen), operator.cpu_times(), time.monotonic()
    rss = 0.0
    while time.monotonic() - begin < WINDOW:
        rss = max(rss, operator.memory_info().rss / 1e6)
        time.sleep(0.25)
    seconds, now = time.monotonic() - begin, operator.cpu_times()
    changed = Counter(writes.seen) - before
    used = (now.user + now.system - cpu.user - cpu.system) / seconds
    first = statistics.median(first_status(server, writes, f"{name}-{i}") for i in range(ONE_MORE))
    most = max(changed.values(), default=0) / seconds
    return Measured(rss, used * 100, changed.total() / seconds, most, first)


def change(urls: list[str], ready: threading.Event, stop: threading.Event) -> None:
    """Fill each queue, then settle a batch of each in turn, until told to stop."""
    queues = [JetStreamQueue.open(url) for url in urls]
    for queue in queues:
        queue.publish(0, [b'{"first":0,"count":1}\n[1]'] * 500)
        queue.seal(500, 500)
    ready.set()
    begin, settled = time.monotonic(), 0
    while not stop.is_set():
        round_began = time.monotonic()
        for queue in queues:
            taken = queue.receive(1, lease=30.0, wait=1.0)
            settled += sum(queue.ack(taken))
        stop.wait(round_began + 1 - time.monotonic())
    seconds = time.monotonic() - begin
    print(f"changing: each of {len(queues):,} jobs settled a batch every {seconds * len(queues) / settled:.1f} s")
    for queue in queues:
        queue.close()


def quiet(writes: Writes) -> None:
    """Wait until no status was written for a while: jobs without pods are told to be stalled after half a minute."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < 45:
        if writes.seen.total() != seen:
            seen, since = writes.seen.total(), time.monotonic()
        time.sleep(0.1)


def main(count: int) -> None:
    if why := missing() or api_servers.missing():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nats = NatsServer(folder)
        try:
            with api_servers.running(folder / "api") as server:
                made = server.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
                if made.returncode:
                    sys.exit(made.stderr)
                run(server, nats, folder, count)
        finally:
            nats.close()


def run(server: api_servers.ApiServer, nats: NatsServer, folder: Path, count: int) -> None:
    settings = folder / "operator.yaml"
    settings.write_text(
        json.dumps({"queue": {"url": nats.address}, "images": {"handler": "none/handler"}, "liveness_port": 0})
    )
    log = (folder / "operator.log").open("wb")
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    command = [sys.executable, "-P", "-m", "batchyard_operator", str(settings)]
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        wait_for("the API", lambda: server.request("GET", JOBS)[0] == 200, 60)
        writes = Writes(server)
        writes.begin()
        begin = time.monotonic()
        uids = [create(server, f"job-{i}") for i in range(count)]
        asked = time.monotonic() - begin
        wait_for("the queues", lambda: sum(key.endswith("/made") for key in list(writes.started)) >= count)
        took = time.monotonic() - begin
        print(f"{count:,} jobs created in {asked:.1f} s; all had their queue {took:.1f} s after the first")
        quiet(writes)
        operator = psutil.Process(process.pid)
        rest = measure(operator, writes, server, "rest")
        ready, stop = threading.Event(), threading.Event()
        urls = [f"{nats.address}/{queue_name(uid)}" for uid in uids]
        changer = threading.Thread(target=change, args=(urls, ready, stop))
        changer.start()
        ready.wait()
        time.sleep(10)
        moving = measure(operator, writes, server, "more")
        stop.set()
        changer.join()
        tell(count, rest, moving)
    finally:
        if process.poll() is not None:
            print(f"the operator ended with {process.returncode}:\n{(folder / 'operator.log').read_text()[-2000:]}")
        process.terminate()
        process.wait(30)
        log.close()


def tell(count: int, rest: Measured, moving: Measured) -> None:
    jobs = f"operator, {count:,} jobs"
    report(
        [
            Claim(f"{jobs}: memory", max(rest.rss, moving.rss), "MB", "<=", 150),
            Claim(f"{jobs} at rest: CPU", rest.cpu, "% of a core", "<=", None),
            Claim(f"{jobs} changing: CPU", moving.cpu, "% of a core", "<=", None),
            Claim(f"{jobs} at rest: status writes", rest.writes, "a second", "<=", None),
            Claim(f"{jobs} changing: status writes", moving.writes, "a second", "<=", None),
            Claim(f"{jobs} changing: status writes of the busiest job", moving.busiest, "a second", "<=", 1.0),
            Claim(f"{jobs} at rest: first status of one more (median of {ONE_MORE})", rest.first, "s", "<=", 1.0),
            Claim(f"{jobs} changing: first status of one more (median of {ONE_MORE})", moving.first, "s", "<=", 3.0),
        ]
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1000)
