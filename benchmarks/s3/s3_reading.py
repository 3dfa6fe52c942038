"""Reading from a bucket: listing keys, downloading a model, enqueuing JSON lines; each beside the bare way.

A server of its own on this machine, with its store in a temporary folder; ours and the bare way take turns. A bare
listing is `list_objects_v2` page by page. A bare download is s3transfer's, in a virtual environment of its own below
.work; where that cannot be made, it is `get_object` in eight threads. Reading the bytes alone is one `get_object`.
`python benchmarks/s3/s3_reading.py [--keys N] [--model MB] [--lines MB] [--rounds N] [--quick]`
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests")]

from batchyard.api.storage import StorageSettings
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.enqueue.sources import source_of
from batchyard.queue.sqlite import SqliteQueue
from batchyard.storage.door import open_folder
from batchyard.storage.download import download
from batchyard.storage.port import StoreOptions
from report import Claim, report
from s3_server import BUCKET, OWNER, REGION, S3Server, missing

MB = 1_000_000
VENV = Path(".work/bench-s3-venv")
BATCH = 100
S3TRANSFER = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import boto3
from boto3.s3.transfer import TransferConfig
endpoint, bucket, target, *keys = json.load(sys.stdin)
client = boto3.client("s3", endpoint_url=endpoint)
from s3transfer.manager import TransferManager
began = time.perf_counter()
with TransferManager(client, TransferConfig(max_concurrency=8)) as manager:
    done = []
    for key in keys:
        path = Path(target, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        done.append(manager.download(bucket, key, str(path)))
    for one in done:
        one.result()
print(time.perf_counter() - began)
"""


def medians(rounds: int, *ways: Callable[[], float]) -> list[float]:
    """Let the ways take turns and return the median seconds of each."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, times in zip(ways, taken, strict=True):
            times.append(way())
    return [statistics.median(times) for times in taken]


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def listing(s3: S3Server, keys: int, rounds: int) -> list[Claim]:
    s3.fill("many", keys)
    bucket, client = open_folder(f"s3://{BUCKET}", StoreOptions(endpoint=s3.endpoint)), s3.client()
    source = InputSettings(kind="files", paths=[f"s3://{BUCKET}/many/**/*5"], excludes=["*55"])
    settings = EnqueueSettings(input=source, storage=StorageSettings(endpoint=s3.endpoint))

    def ours() -> float:
        return timed(lambda: sum(1 for _ in bucket.list("many")))

    def bare() -> float:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="many/")
        return timed(lambda: sum(1 for page in pages for _ in page["Contents"]))

    def globbed() -> float:
        return timed(lambda: sum(1 for _ in source_of(settings).runs()))

    own, plain, picked = medians(rounds, ours, bare, globbed)
    print(f"{keys:,} keys: {keys / own:,.0f} keys/s, bare {keys / plain:,.0f}, with globs {keys / picked:,.0f}")
    return [
        Claim("listing / bare list_objects_v2", plain / own, "ratio", ">=", 0.9),
        Claim("listing with globs, as the enqueuer does / bare", plain / picked, "ratio"),
    ]


def model_files(megabytes: int) -> dict[str, int]:
    """Return names and sizes of a model's files: most bytes in a few shards, many small ones beside them."""
    files = {f"1/variables/variables.data-{i:05d}-of-00004": megabytes * MB // 5 for i in range(4)}
    files |= {f"1/assets/{i:03d}.txt": megabytes * MB // 5 // 100 for i in range(99)}
    return files | {"1/saved_model.pb": megabytes * MB // 500}


def downloading(s3: S3Server, megabytes: int, rounds: int, work: Path) -> list[Claim]:
    client, block = s3.client(), os.urandom(1 << 20)
    files = model_files(megabytes)
    for name, size in files.items():
        client.put_object(Bucket=BUCKET, Key=f"model/{name}", Body=(block * (size // len(block) + 1))[:size])
    bucket, target = open_folder(f"s3://{BUCKET}", StoreOptions(endpoint=s3.endpoint)), work / "target"
    naive, other = bare_download(s3, [f"model/{name}" for name in files], target)

    def cleared(way: Callable[[], float]) -> Callable[[], float]:
        def run() -> float:
            for old in work.glob("*target*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            shutil.rmtree(work / ".target.partial", ignore_errors=True)
            (work / ".target.fetched").unlink(missing_ok=True)
            return way()

        return run

    own, plain = medians(rounds, cleared(lambda: timed(lambda: download(bucket, "model", target))), cleared(naive))
    total = sum(files.values()) / MB
    print(f"{total:,.0f} MB in {len(files)} files: {total / own:,.0f} MB/s, {other} {total / plain:,.0f} MB/s")
    return [Claim(f"download of a model, flushed / {other}, not flushed", plain / own, "ratio", ">=", 0.9)]


def bare_download(s3: S3Server, keys: list[str], target: Path) -> tuple[Callable[[], float], str]:
    """Return a way to download the keys without us, in seconds, and its name."""
    python = VENV / "bin" / "python"
    if not python.exists():
        venv.create(VENV, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "boto3"]
    if subprocess.run(pip, stderr=subprocess.DEVNULL).returncode == 0:
        told = json.dumps([s3.endpoint, BUCKET, str(target), *keys])

        def transferred() -> float:
            run = subprocess.run([python, "-c", S3TRANSFER], input=told, capture_output=True, text=True, check=True)
            return float(run.stdout)

        return transferred, "s3transfer"
    client = s3.client()

    def get(key: str) -> None:
        path = target / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in client.get_object(Bucket=BUCKET, Key=key)["Body"].iter_chunks(1 << 20):
                file.write(chunk)

    def got() -> float:
        with ThreadPoolExecutor(8) as pool:
            return timed(lambda: list(pool.map(get, keys)))

    return got, "get_object in 8 threads"


def enqueuing(s3: S3Server, megabytes: int, rounds: int, work: Path) -> list[Claim]:
    block = b"".join(json.dumps({"id": 10**8 + i, "text": "x" * 170}).encode() + b"\n" for i in range(5000))
    times = max(1, megabytes * MB // len(block))
    client, size, items = s3.client(), times * len(block), times * 5000
    client.put_object(Bucket=BUCKET, Key="lines/a.jsonl", Body=block * times)

    def enqueued() -> float:
        for old in work.glob("queue.db*"):
            old.unlink()
        SqliteQueue.create(work / "queue.db").close()
        source = InputSettings(kind="delimitedFiles", paths=[f"s3://{BUCKET}/lines"])
        settings = EnqueueSettings(
            queue=f"sqlite:{work / 'queue.db'}",
            input=source,
            batch_size=BATCH,
            storage=StorageSettings(endpoint=s3.endpoint),
        )
        (work / "settings.json").write_text(settings.model_dump_json())
        command = [sys.executable, "-m", "batchyard.enqueue", str(work / "settings.json")]
        return timed(lambda: subprocess.run(command, stderr=subprocess.DEVNULL, check=True))

    def read() -> float:
        def all_of_it() -> None:
            body: Any = client.get_object(Bucket=BUCKET, Key="lines/a.jsonl")["Body"]
            while body.read(1 << 20):
                pass

        return timed(all_of_it)

    own, plain = medians(rounds, enqueued, read)
    ratio, rate = plain / own, items / own
    print(
        f"{items:,} lines, {size / MB:,.0f} MB: enqueued at {rate:,.0f} items/s, {size / MB / own:,.0f} MB/s; ",
        end="",
    )
    print(f"the bytes alone {size / MB / plain:,.0f} MB/s")
    return [
        Claim("enqueue from a bucket / reading the bytes alone", ratio, "ratio"),
        Claim("enqueue from a bucket", rate, "items/s"),
        Claim("the better of ratio / 0.5 and items/s / 200,000", max(ratio / 0.5, rate / 200_000), "", ">=", 1.0),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--model", type=int, default=1000, metavar="MB")
    parser.add_argument("--lines", type=int, default=400, metavar="MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="20,000 keys, 200 MB, 100 MB, one round")
    given = parser.parse_args()
    if given.quick:
        given.keys, given.model, given.lines, given.rounds = 20_000, 200, 100, 1
    if what := missing():
        print(what)
        return 1
    os.environ |= {"AWS_ACCESS_KEY_ID": OWNER[0], "AWS_SECRET_ACCESS_KEY": OWNER[1], "AWS_DEFAULT_REGION": REGION}
    with tempfile.TemporaryDirectory(prefix="bench-s3-") as temporary:
        work = Path(temporary)
        server = S3Server(work / "server")
        try:
            claims = enqueuing(server, given.lines, given.rounds, work)
            claims += downloading(server, given.model, given.rounds, work)
            claims += listing(server, given.keys, given.rounds)
        finally:
            server.close()
    report(claims)
    return 0 if all(claim.met for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
