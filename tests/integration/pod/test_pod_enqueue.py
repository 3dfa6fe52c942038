"""The enqueuer's pod: it makes the output ready, publishes, seals, and may be killed at any moment."""

import json
from pathlib import Path
from typing import Any

import pytest
from pod_harness import MakeJob, inline, results, wait_until


def write_lines(folder: Path, files: int, lines: int) -> list[int]:
    """Write numbers, one a line; return them."""
    folder.mkdir(parents=True)
    for i in range(files):
        (folder / f"{i:03d}.jsonl").write_text("".join(f"{i * lines + n}\n" for n in range(lines)))
    return list(range(files * lines))


def spec(volume: Path, **more: Any) -> dict[str, Any]:
    return {
        "handler": inline(),
        "input": {"delimitedFiles": {"paths": [str(volume / "in")]}, "batchSize": 5},
        "output": {"path": str(volume / "out")},
        "pod": {"volumeMounts": [{"name": "data", "mountPath": str(volume)}]},
        **more,
    }


def test_files_become_batches_and_the_worker_of_another_pod_runs_them(make_job: MakeJob, tmp_path: Path) -> None:
    numbers = write_lines(tmp_path / "in", 3, 10)
    job = make_job(spec(tmp_path))
    assert job.pod(None).enqueue().wait().code == 0
    assert (job.state.total, job.state.items) == (6, 30)
    worker = job.pod(0)
    assert worker.fetch().wait().code == 0
    assert worker.worker().wait().code == 0
    assert results(tmp_path / "out") == [number * 2 for number in numbers]


def test_an_enqueuer_killed_again_and_again_publishes_each_batch_once_and_clears_only_old_results(
    make_job: MakeJob, tmp_path: Path
) -> None:
    numbers = write_lines(tmp_path / "in", 200, 100)
    earlier = make_job(spec(tmp_path))
    assert earlier.pod(None).enqueue().wait().code == 0
    first = earlier.pod(0)
    assert first.fetch().wait().code == 0
    first.worker()
    wait_until(lambda: len(results(tmp_path / "out")) > 50, "results of the earlier run")
    earlier.close()
    (tmp_path / "out" / "parts" / "999999").mkdir()
    stale = tmp_path / "out" / "parts" / "999999" / "part-999999000.jsonl"
    stale.write_text('{"position": 0, "result": "stale"}\n')

    job = make_job(spec(tmp_path))
    pod, worker = job.pod(None), job.pod(0)
    assert worker.fetch().wait().code == 0
    running = worker.worker()
    for published in (0, 1, 1500, 2500):
        container = pod.enqueue()
        wait_until(
            lambda n=published, c=container: job.state.counts.published >= n or c.process.poll() is not None,  # type: ignore[misc]  # mypy does not infer a lambda with a default
            f"{published} batches",
        )
        container.kill()
    racing = [pod.enqueue(), job.pod(None).enqueue()]
    assert [container.wait().code for container in racing] == [0, 0]
    assert (job.state.total, job.state.items) == (4000, 20000)
    assert running.wait().code == 0
    assert not stale.exists()
    assert results(tmp_path / "out") == [number * 2 for number in numbers]
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (told["jobId"], told["batches"]["succeeded"]) == (job.id, 4000)


def test_another_jobs_results_are_refused_and_stay(make_job: MakeJob, tmp_path: Path) -> None:
    write_lines(tmp_path / "in", 1, 5)
    other = make_job(spec(tmp_path), name="other")
    assert other.pod(None).enqueue().wait().code == 0
    first = other.pod(0)
    assert first.fetch().wait().code == 0
    assert first.worker().wait().code == 0
    before = results(tmp_path / "out")

    job = make_job(spec(tmp_path))
    ended = job.pod(None).enqueue().wait()
    assert ended.code == 64
    assert job.halt[0] == "OutputInvalid"
    assert "another job, other" in ended.word
    assert ended.word == job.halt[1]
    assert job.state.counts.published == 0
    assert results(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("content", "changed", "reason", "said"),
    [
        pytest.param(None, {}, "InputInvalid", "in", id="no such folder"),
        pytest.param("", {}, "InputInvalid", "found no items", id="no items"),
        pytest.param("1\n{nope\n", {}, "InputInvalid", "a.jsonl:2", id="malformed line"),
        pytest.param(
            "1\n", {"output": {"path": "/results"}}, "ManifestInvalid", "lies on no volume", id="lost output"
        ),
    ],
)
def test_what_is_wrong_with_input_or_output_halts_the_job(
    make_job: MakeJob, tmp_path: Path, content: str | None, changed: dict[str, Any], reason: str, said: str
) -> None:
    if content is not None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.jsonl").write_text(content)
    job = make_job(spec(tmp_path, **changed))
    ended = job.pod(None).enqueue().wait()
    assert ended.code == 64
    assert job.halt[0] == reason
    assert said in job.halt[1]
    assert ended.word == job.halt[1]
    assert ended.last_line == job.halt[1].replace("\n", " ")


def test_a_job_that_was_stopped_is_not_enqueued(make_job: MakeJob, tmp_path: Path) -> None:
    write_lines(tmp_path / "in", 1, 5)
    job = make_job(spec(tmp_path))
    job.queue.halt("Cancelled", "by the user")
    assert job.pod(None).enqueue().wait().code == 1
    assert job.state.counts.published == 0
    assert not (tmp_path / "out").exists()


def test_sigterm_ends_the_enqueuer(make_job: MakeJob, tmp_path: Path) -> None:
    write_lines(tmp_path / "in", 300, 1000)
    job = make_job(spec(tmp_path))
    container = job.pod(None).enqueue()
    wait_until(lambda: job.state.counts.published > 0, "a first batch")
    container.terminate()
    assert container.wait().code == 143
    assert job.pod(None).enqueue().wait().code == 0
    assert (job.state.total, job.state.items) == (60_000, 300_000)
