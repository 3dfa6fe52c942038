"""What a worker adds to a batch: batches a second with a handler that does nothing, one worker on SQLite.

The queue port alone runs beside it in the same minute, so that a slow disk or a busy machine shows in both.
`python benchmarks/worker_overhead.py [--quick]`
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from batchyard.api.messages import Header, encode
from batchyard.queue.sqlite import SqliteQueue
from report import Claim, report

HANDLER = """
class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload): pass
"""


def make_queue(folder: Path, batches: int, item_bytes: int) -> Path:
    path = folder / "queue.db"
    queue = SqliteQueue.create(path)
    items = json.dumps(["x" * item_bytes]).encode()
    for first in range(0, batches, 1000):
        queue.publish(first, [encode(Header(i, 1), items) for i in range(first, min(first + 1000, batches))])
    queue.seal(batches, batches)
    queue.close()
    return path


def worker_rate(batches: int, item_bytes: int = 8, **settings: object) -> float:
    """Return batches a second from the worker's first batch to the last one settled: its start is another claim."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = make_queue(folder, batches, item_bytes)
        (folder / "handler.py").write_text(HANDLER)
        values = {
            "job_id": "bench",
            "job_name": "bench",
            "worker": "worker-0",
            "queue": f"sqlite:{path}",
            "handler": {"type": "python", "project": name, "path": "handler.py"},
            **settings,
        }
        (folder / "settings.json").write_text(json.dumps(values))
        command = [sys.executable, "-m", "batchyard.worker", str(folder / "settings.json")]
        with (folder / "log").open("wb") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log)
        start = end = 0.0
        queue = SqliteQueue.open(path)
        while not end:
            counts = queue.state().counts
            now = time.perf_counter()
            if not start and counts.running + counts.settled:
                start = now
            if counts.settled == batches:
                end = now
            assert worker.poll() in (None, 0), (folder / "log").read_text()
            time.sleep(0.005)
        assert worker.wait(60) == 0, (folder / "log").read_text()
        assert queue.state().counts.succeeded == batches
        queue.close()
        return batches / (end - start)


def port_rate(batches: int) -> float:
    """Return receives and acks a second of the port alone, 32 at a time."""
    with tempfile.TemporaryDirectory() as name:
        queue = SqliteQueue.open(make_queue(Path(name), batches, 8))
        start = time.perf_counter()
        done = 0
        while done < batches:
            deliveries = queue.receive(32, 30.0, 0.0)
            done += sum(queue.ack(deliveries))
        taken = time.perf_counter() - start
        queue.close()
        return batches / taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer batches and rounds, for a look")
    quick = parser.parse_args().quick
    batches, rounds = (3_000, 1) if quick else (15_000, 3)
    worker, port = [], []
    for _ in range(rounds):  # side by side: what disturbs the one disturbs the other
        port.append(port_rate(batches))
        worker.append(worker_rate(batches))
    alone, median = statistics.median(port), statistics.median(worker)
    few = batches // 3
    report(
        [
            Claim("worker, no-op handler, 1 process", median, "batches/s", ">=", 1000.0),
            Claim("queue port alone, receive + ack, 32 at a time", alone, "batches/s"),
            Claim("worker / queue port alone", median / alone, "ratio"),
            Claim("worker, 1 KB a batch", worker_rate(few, 1 << 10), "batches/s"),
            Claim("worker, 100 KB a batch", worker_rate(few // 5, 100 << 10), "batches/s"),
            Claim("worker, 2 threads", worker_rate(few, threads=2), "batches/s"),
            Claim("worker, 2 processes", worker_rate(few, processes=2), "batches/s"),
        ]
    )


if __name__ == "__main__":
    main()
