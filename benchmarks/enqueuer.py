"""How fast the enqueuer turns JSON lines into batches, and that its memory stays flat.

The process is timed as a user gets it: from its start to the sealed queue on this disk. Beside it, interleaved:
reading the bytes alone, cutting them without a queue, and the queue alone with the same bytes. Short lines are bound
by the work an item takes, long ones by the queue's disk. Each number is the median of the rounds.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from batchyard.enqueue.count import count
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.queue.sqlite import SqliteQueue
from report import Claim, report

WORK = Path(".work/bench-enqueuer")
BATCH = 100
ROUNDS = 3
MB = 1_000_000
SHORT, LONG = 60, 860  # characters of text in a line


def write_lines(path: Path, megabytes: int, text: int) -> int:
    """Write JSON lines (an id, a text, four floats; ``text`` + 140 bytes or so) and return how many."""
    block = b"".join(
        json.dumps({"id": 10**8 + i, "text": "x" * text, "scores": [i / 7, i / 3, i / 11, i / 13]}).encode() + b"\n"
        for i in range(5_000)
    )
    times = max(1, megabytes * MB // len(block))
    with path.open("wb") as file:
        for _ in range(times):
            file.write(block)
    return times * 5_000


def settings_for(path: Path) -> EnqueueSettings:
    queue = WORK / "queue.db"
    for old in WORK.glob("queue.db*"):
        old.unlink()
    SqliteQueue.create(queue).close()
    given = InputSettings(kind="delimitedFiles", paths=[path.name])
    return EnqueueSettings(queue=f"sqlite:{queue.absolute()}", input=given, folder=WORK.absolute(), batch_size=BATCH)


def enqueue(path: Path) -> tuple[float, float]:
    """Run the enqueuer process; return seconds and its largest resident size in MB."""
    settings = WORK / "settings.json"
    settings.write_text(settings_for(path).model_dump_json())
    began = time.perf_counter()
    command = [sys.executable, "-m", "batchyard.enqueue", str(settings)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the enqueuer ended with {process.returncode}")
    unit = 1024 if sys.platform == "linux" else 1  # ru_maxrss: KiB on Linux, bytes on macOS
    return seconds, usage.ru_maxrss * unit / MB


def read_bytes(path: Path) -> float:
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 18):
            pass
    return time.perf_counter() - began


def cut_only(path: Path) -> float:
    """Read, check and cut without a queue."""
    settings = settings_for(path)
    began = time.perf_counter()
    count(settings)
    return time.perf_counter() - began


def publish_only(path: Path) -> float:
    """Put as many bytes into the queue without reading or checking them."""
    settings = settings_for(path)
    queue = SqliteQueue.open(settings.queue.partition(":")[2])
    body = bytes(50_000)
    batches = path.stat().st_size // len(body)
    began = time.perf_counter()
    for first in range(0, batches, 160):
        queue.publish(first, [body] * min(160, batches - first))
    queue.close()
    return time.perf_counter() - began


def measure(text: int, named: str) -> tuple[list[Claim], float]:
    """Return the claims for lines of one length, and how often the target (in either unit) is met."""
    path = WORK / "lines.jsonl"
    items = write_lines(path, 150, text)
    size = path.stat().st_size / MB
    runs: dict[str, list[float]] = {"enqueue": [], "bytes": [], "cut": [], "publish": []}
    for _ in range(ROUNDS):
        runs["enqueue"].append(enqueue(path)[0])
        runs["bytes"].append(read_bytes(path))
        runs["cut"].append(cut_only(path))
        runs["publish"].append(publish_only(path))
    seconds = {name: statistics.median(found) for name, found in runs.items()}
    rate, per_second = size / seconds["enqueue"], items / seconds["enqueue"]
    claims = [
        Claim(f"enqueue {named}: the bytes read alone", size / seconds["bytes"], "MB/s"),
        Claim(f"enqueue {named}: cut without a queue", size / seconds["cut"], "MB/s"),
        Claim(f"enqueue {named}: the queue alone", size / seconds["publish"], "MB/s"),
        Claim(f"enqueue {named}: start to sealed", rate, "MB/s"),
        Claim(f"enqueue {named}: start to sealed", per_second, "items/s"),
    ]
    return claims, max(rate / 100, per_second / 200_000)


def main() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    short, met = measure(SHORT, "200 B lines")
    long, met_long = measure(LONG, "1 KB lines")
    path = WORK / "lines.jsonl"
    resident = []
    for megabytes in (100, 400):
        write_lines(path, megabytes, LONG)
        resident.append(enqueue(path)[1])
    report(
        [
            *short,
            *long,
            Claim("enqueue 200 B lines: of 100 MB/s or 200,000 items/s", met, "x", ">=", 1.0),
            Claim("enqueue 1 KB lines: of 100 MB/s or 200,000 items/s", met_long, "x"),
            Claim("enqueuer: resident, 100 MB of input", resident[0], "MB"),
            Claim("enqueuer: resident, 400 MB of input", resident[1], "MB"),
            Claim("enqueuer: memory, 400 MB over 100 MB of input", resident[1] / resident[0], "x", "<=", 1.15),
        ]
    )
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
