"""How fast a worker is ready for its first batch without a model, and how much memory it and its child hold.

Also with what `type: tensorflow` adds to the handler process: the client's imports (gRPC, NumPy, protobuf).
`python benchmarks/worker_start.py [--quick]`
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from batchyard.api.messages import Header, encode
from batchyard.queue.sqlite import SqliteQueue
from report import Claim, report

HANDLER = """
{imports}
class Handler:
    def __init__(self, config): pass
    def handle_batch(self, payload):
        import time
        time.sleep(60)
"""
CLIENT = "import batchyard.serving.client"
MB = 1e6


def start_once(imports: str) -> tuple[float, float, float]:
    """Return seconds from process start to "ready for the first batch", and the RSS of parent and child in MB.

    Memory is read while the first batch runs: everything that a batch needs has been imported then.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        queue = SqliteQueue.create(folder / "queue.db")
        queue.publish(0, [encode(Header(0, 1), b"[1]")])
        queue.seal(1, 1)
        (folder / "handler.py").write_text(HANDLER.format(imports=imports))
        values = {
            "job_id": "bench",
            "job_name": "bench",
            "worker": "worker-0",
            "queue": f"sqlite:{folder / 'queue.db'}",
            "handler": {"type": "python", "project": name, "path": "handler.py"},
        }
        (folder / "settings.json").write_text(json.dumps(values))
        command = [sys.executable, "-m", "batchyard.worker", str(folder / "settings.json")]
        start = time.perf_counter()
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert worker.stdout is not None
            for line in worker.stdout:
                if b"ready for the first batch" in line:
                    break
            else:
                raise AssertionError("the worker ended before it was ready")
            ready = time.perf_counter() - start
            while not queue.state().counts.running:
                time.sleep(0.01)
            time.sleep(0.2)
            parent = psutil.Process(worker.pid)
            (child,) = parent.children()
            memory = parent.memory_info().rss / MB, child.memory_info().rss / MB
        finally:
            worker.kill()
            worker.wait()
            queue.close()
        return ready, *memory


def measure(rounds: int, imports: str) -> tuple[float, float, float]:
    found = [start_once(imports) for _ in range(rounds)]
    seconds, parents, children = zip(*found, strict=True)
    return statistics.median(seconds), max(parents), max(children)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
    rounds = 2 if parser.parse_args().quick else 7
    start_once("")  # compiled modules and a warm file cache, as on any start but a machine's first
    seconds, parent, child = measure(rounds, "")
    client_seconds, _, client_child = measure(rounds, CLIENT)
    report(
        [
            Claim("worker start to ready, no model (median)", seconds, "s", "<=", 0.7),
            Claim("worker memory, parent (largest)", parent, "MB RSS", "<=", 80.0),
            Claim("worker memory, handler process (largest)", child, "MB RSS", "<=", 80.0),
            Claim("worker start to ready with tensorflow_client's imports", client_seconds, "s"),
            Claim("worker memory, handler process with the client", client_child, "MB RSS", "<=", 80.0),
        ]
    )


if __name__ == "__main__":
    main()
