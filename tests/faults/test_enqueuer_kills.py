"""The enqueuer killed with SIGKILL at random moments: no batch is lost, none comes twice, each is as if unharmed."""

import gzip
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.enqueue.sources import source_of
from batchyard.enqueue.split import split
from batchyard.queue.sqlite import SqliteQueue

KILLS = 25
ITEMS = 25_000  # a file


def write_input(folder: Path, rng: random.Random) -> None:
    """Write files of every kind, with malformed lines, values over several lines and rows with quoted newlines."""
    items = [{"id": i, "text": "é" * rng.randrange(20)} for i in range(ITEMS)]
    with (folder / "a.jsonl").open("w") as file:
        for item in items:
            spread = rng.random() < 0.02
            gap = rng.choice(["\n", "\n\n", " ", "\r\n"])
            file.write(json.dumps(item, indent=1 if spread else None) + gap)
            file.write("oops\n" if gap != " " and rng.random() < 0.002 else "")
    with gzip.open(folder / "b.jsonl.gz", "wt", compresslevel=1) as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
    with (folder / "c.csv").open("w") as file:
        file.write("id,text\n")
        file.writelines(f'{item["id"]},"x\n{item["text"]}"\n' if item["id"] % 99 else "1,2,3\n" for item in items)
    (folder / "d.jsonl").touch()


def test_killed_at_random_moments_it_publishes_what_it_would_have(tmp_path):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    write_input(tmp_path, rng)
    kills = rounds = 0
    while kills < KILLS:
        kills += one_job(tmp_path, rng, size=rng.choice([1, 1, 2]), number=rounds, most=KILLS - kills)
        rounds += 1
        assert rounds < 20, f"only {kills} kills in {rounds} jobs"


def one_job(folder: Path, rng: random.Random, size: int, number: int, most: int) -> int:
    """Enqueue the input under up to ``most`` kills, check every batch, and return the number of kills that hit."""
    file = folder / f"queue-{number}.db"
    queue = SqliteQueue.create(file)
    given = InputSettings(kind="delimitedFiles", paths=["a.jsonl", "b.jsonl.gz", "c.csv", "d.jsonl"])
    settings = EnqueueSettings(
        queue=f"sqlite:{file}", input=given, folder=folder, batch_size=size, tolerate_malformed=True
    )
    settings_file = folder / f"settings-{number}.json"
    settings_file.write_text(settings.model_dump_json())
    kills = 0
    while not (position := queue.position()).sealed:
        with (folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "batchyard.enqueue", str(settings_file)]
            process = subprocess.Popen(command, stderr=log)
        if kills < most:
            kills += kill_soon(process, queue, position.published, rng)
        assert process.wait(60) in (0, -9), (folder / "log").read_text()[-2000:]
    expected = [batch.body for batch in split(source_of(settings).runs(), size)]
    state = queue.state()
    assert (state.total, state.items) == (len(expected), 3 * ITEMS + sum(b'"oops"' in body for body in expected))
    taken: dict[int, bytes] = {}
    while deliveries := queue.receive(1000, lease=60, wait=0):
        assert not taken.keys() & {d.index for d in deliveries}
        taken |= {d.index: d.body for d in deliveries}
        assert all(queue.ack(deliveries))
    assert [taken[i] for i in sorted(taken)] == expected
    queue.close()
    return kills


def kill_soon(process: subprocess.Popen[bytes], queue: SqliteQueue, published: int, rng: random.Random) -> int:
    """Kill it at a random moment: while it starts, or a little after it has published something; 1 if that hit it."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 0.4))
    else:
        until = time.monotonic() + 60
        while process.poll() is None and queue.position().published == published and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
    if process.poll() is not None:
        return 0
    process.kill()
    return 1
