"""Writing results to a bucket: parts a second, against bare put_object calls of the same client, side by side.

A server of its own on this machine, whose answers take a millisecond or two; then through a proxy that adds the 20 ms
that a store across a network takes, where only puts side by side help.
`python benchmarks/s3/s3_parts.py [--quick]`
"""

import argparse
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests")]

from batchyard.api.messages import Header, encode
from batchyard.api.names import part_name
from batchyard.output.parts import Parts
from batchyard.queue.sqlite import SqliteQueue
from batchyard.storage.port import StoreOptions
from report import Claim, report
from s3_server import BUCKET, OWNER, REGION, S3Server, missing

THREADS = 32
PART = b'{"position": 0, "result": 0.123456}\n' * 30  # about 1 KB
HANDLER = """
class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload): return payload
"""


@contextmanager
def slow(port: int, delay: float) -> Iterator[str]:
    """Pass connections on to a port; the first bytes of each answer come ``delay`` seconds late."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked = False
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is far and asked:
                        time.sleep(delay)
                    asked = ready is near
                    (far if ready is near else near).sendall(data)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(near,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with closing(listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def rate(count: int, put: Callable[[int], object]) -> float:
    """Return calls a second, 32 at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(put, range(count), chunksize=1))
        return count / (time.perf_counter() - start)


def bare_rate(endpoint: str, count: int) -> float:
    from botocore.config import Config
    from botocore.session import Session

    config = Config(max_pool_connections=THREADS, s3={"addressing_style": "path"})
    checksums = dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
    client: Any = Session().create_client("s3", endpoint_url=endpoint, config=config.merge(Config(**checksums)))
    prefix = uuid4().hex
    return rate(count, lambda at: client.put_object(Bucket=BUCKET, Key=f"{prefix}/{part_name(at)}", Body=PART))


def parts_rate(endpoint: str, count: int) -> float:
    parts = Parts(f"s3://{BUCKET}/{uuid4().hex}", StoreOptions(endpoint=endpoint))
    return rate(count, lambda at: parts.write(at, PART))


def worker_rate(endpoint: str, count: int) -> float:
    """Return batches a second of one worker with a handler that does nothing, from its first batch to the last."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        queue = SqliteQueue.create(folder / "queue.db")
        items = json.dumps(["x" * 900]).encode()
        for first in range(0, count, 1000):
            queue.publish(first, [encode(Header(i, 1), items) for i in range(first, min(first + 1000, count))])
        queue.seal(count, count)
        (folder / "handler.py").write_text(HANDLER)
        values = {
            "job_id": "bench",
            "job_name": "bench",
            "worker": "worker-0",
            "queue": f"sqlite:{folder / 'queue.db'}",
            "handler": {"type": "python", "project": name, "path": "handler.py"},
            "output": {"path": f"s3://{BUCKET}/{uuid4().hex}"},
            "storage": {"endpoint": endpoint},
        }
        (folder / "settings.json").write_text(json.dumps(values))
        command = [sys.executable, "-m", "batchyard.worker", str(folder / "settings.json")]
        with (folder / "log").open("wb") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log)
        start = 0.0
        while (counts := queue.state().counts).settled < count:
            start = start or (time.perf_counter() if counts.settled else 0.0)
            assert worker.poll() is None, (folder / "log").read_text()
            time.sleep(0.01)
        taken = time.perf_counter() - start
        assert worker.wait(120) == 0, (folder / "log").read_text()
        assert queue.state().counts.succeeded == count
        queue.close()
        return count / taken


def measure(endpoint: str, what: str, count: int, rounds: int) -> list[Claim]:
    bare, parts, worker = [], [], []
    for _ in range(rounds):  # side by side: what disturbs the one disturbs the others
        bare.append(bare_rate(endpoint, count))
        parts.append(parts_rate(endpoint, count))
        worker.append(worker_rate(endpoint, count))
    alone = statistics.median(bare)
    return [
        Claim(f"bare put_object, 32 threads, {what}", alone, "parts/s"),
        Claim(f"parts / bare, {what}", statistics.median(parts) / alone, "ratio", ">=", 0.8),
        Claim(f"worker with a no-op handler / bare, {what}", statistics.median(worker) / alone, "ratio", ">=", 0.6),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer parts and rounds, for a look")
    quick = parser.parse_args().quick
    if missing():
        sys.exit(missing())
    os.environ |= {"AWS_ACCESS_KEY_ID": OWNER[0], "AWS_SECRET_ACCESS_KEY": OWNER[1], "AWS_REGION": REGION}
    count, rounds = (1_000, 1) if quick else (10_000, 2)
    with tempfile.TemporaryDirectory() as folder, closing(S3Server(Path(folder) / "server")) as server:
        claims = measure(server.endpoint, "local", count, rounds)
        with slow(server.port, 0.02) as endpoint:
            claims += measure(endpoint, "20 ms away", count // 4, rounds)
    report(claims)


if __name__ == "__main__":
    main()
