"""An enqueuer that reads a bucket, killed at random moments, and its store killed too: every batch as if unharmed."""

import gzip
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from batchyard.api.storage import StorageSettings
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.enqueue.sources import source_of
from batchyard.enqueue.split import split
from batchyard.queue.sqlite import SqliteQueue
from s3_server import BUCKET, OWNER, REGION, S3Server, missing

KILLS = 8
ITEMS = 20_000  # a large file
SMALL = 120  # files of three lines


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    if missing():
        pytest.skip(missing())
    for name, value in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"), (*OWNER, REGION), strict=True):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = S3Server(tmp_path / "s3")
    yield server
    server.close()


def fill(s3: S3Server) -> int:
    """Put files of every kind and return how many items they hold."""
    lines = [json.dumps({"id": i, "text": "é" * (i % 90)}) for i in range(ITEMS)]
    text = "\n".join(lines)
    client = s3.client()
    files = {"a b.jsonl": text.encode(), "c.jsonl.gz": gzip.compress(text.encode(), 1)}
    files["é.csv"] = ("id,text\n" + "".join(f'{i},"x\n{i}"\n' for i in range(ITEMS))).encode()
    files |= {f"many/{i % 7}+/{i}.jsonl": f"{i}\n[{i}\n]\n{i}".encode() for i in range(SMALL)}
    for name, content in files.items():
        client.put_object(Bucket=BUCKET, Key=f"in/{name}", Body=content)
    return 3 * ITEMS + 3 * SMALL


def test_whoever_is_killed_the_queue_holds_what_it_would_have(s3: S3Server, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, count = random.Random(seed), fill(s3)
    queue = SqliteQueue.create(tmp_path / "queue.db")
    settings = EnqueueSettings(
        queue=f"sqlite:{tmp_path / 'queue.db'}",
        input=InputSettings(kind="delimitedFiles", paths=[f"s3://{BUCKET}/in/many/3+", f"s3://{BUCKET}/in"]),
        storage=StorageSettings(endpoint=s3.endpoint),
    )
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    kills = starts = 0
    while not (position := queue.position()).sealed:
        starts += 1
        assert starts < 5 * KILLS
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, "-m", "batchyard.enqueue", str(tmp_path / "settings.json")]
            process = subprocess.Popen(command, stderr=log)
        if kills < KILLS:
            wait_for_more(process, queue, position.published, rng)
            if kills == KILLS // 2:  # the store this time: the enqueuer waits for it
                s3.kill()
                kills += 1
                s3.start()
            elif process.poll() is None:
                process.kill()
                kills += 1
        assert process.wait(120) in (0, -9), (tmp_path / "log").read_text()[-3000:]
    assert kills > KILLS // 2, "the store was not killed"
    expected = [batch.body for batch in split(source_of(settings).runs(), 1)]
    state = queue.state()
    assert (state.total, state.items, len(expected)) == (count, count, count)
    taken: dict[int, bytes] = {}
    while deliveries := queue.receive(1000, lease=60, wait=0):
        taken |= {delivery.index: delivery.body for delivery in deliveries}
        assert all(queue.ack(deliveries))
    assert [taken[i] for i in sorted(taken)] == expected
    queue.close()


def wait_for_more(process: subprocess.Popen[bytes], queue: SqliteQueue, published: int, rng: random.Random) -> None:
    """Wait until it has published something, and a little longer."""
    until = time.monotonic() + 60
    while process.poll() is None and queue.position().published == published and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.1))
