"""What handlers do beside their work: processes of their own, an output folder somebody else uses."""

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
