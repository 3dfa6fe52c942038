"""What handlers do beside their work: processes of their own, an output folder somebody else uses."""

import contextlib
import os
import subprocess
from dataclasses import replace
from typing import Any

import pytest

POOLS = {
    "multiprocessing.Pool": "with multiprocessing.Pool(2) as pool: return pool.map(abs, payload)",
    "terminate a process": """
process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
process.start()
process.terminate()
process.join()
return payload
""",
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in POOLS.items()])
def test_a_handler_may_fork_processes_and_end_them_by_signals(job: Any, body: str) -> None:
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    code = (
        "import multiprocessing, time\n"
        "class Handler:\n"
        "    def __init__(self, config): pass\n"
        f"    def handle_batch(self, payload):\n{lines}"
    )
    ran = job.write(
        code, input={"items": [1, 2], "batchSize": 2}, batchTimeout="10s", output={"path": "out"}
    ).run_json()
    assert (ran["exitCode"], ran["failures"]) == (0, [])


def test_a_second_job_is_refused_the_output_of_the_first_and_deletes_nothing(job: Any) -> None:
    assert job.write(output={"path": "out"}).run().code == 0
    before = {p: p.read_bytes() for p in (job.folder / "out").rglob("*") if p.is_file()}
    other = replace(job, name="other")
    for option in ("--restart", "--resume", "--dry-run"):
        ran = other.write(output={"path": "out"}).run(option)
        assert (ran.code, "another job, job" in ran.err) == (2, True), ran.err
    assert {p: p.read_bytes() for p in (job.folder / "out").rglob("*") if p.is_file()} == before
    assert job.write(output={"path": "out"}).run().code == 0


def test_a_file_of_the_users_that_a_run_would_clear_is_refused(job: Any) -> None:
    (job.folder / "manifest.json").write_text("the user's")
    ran = job.write(output={"path": "."}).run()
    assert (ran.code, "manifest.json, which no job has marked" in ran.err) == (2, True), ran.err
    assert (job.folder / "manifest.json").read_text() == "the user's"


def test_a_file_that_an_inline_project_names_as_a_folder_too_is_refused(job: Any) -> None:
    files = {"handler.py": "", "handler.py/more.py": ""}
    handler = {"type": "python", "path": "handler.py", "project": {"inline": files}}
    ran = job.write(None, handler=handler).run()
    assert (ran.code, "a file and a folder" in ran.err, "Traceback" in ran.err) == (2, True, False), ran.err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small tmpfs: run as root")
@pytest.mark.parametrize("size", ["4k", "60k", "300k"])
def test_a_full_disk_below_the_jobs_state_is_told_in_a_sentence(job: Any, size: str) -> None:
    disk = job.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("mounts a small tmpfs, which this machine refuses")
    try:
        (disk / "filler").write_bytes(b"")
        with contextlib.suppress(OSError), (disk / "filler").open("wb") as filler:
            filler.write(b"x" * (int(size[:-1]) * 1024 - 8192))
        process = job.write().start("--state-dir", disk)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(8)
        process.terminate()
        err = process.communicate(timeout=60)[1]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert process.returncode in (1, 2, 130)
    assert "Traceback" not in err, err
