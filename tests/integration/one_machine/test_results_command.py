"""`batchyard results`: the results of a job, of a folder and of a manifest, as JSON lines and as CSV."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from batchyard.output.parts import Parts

COMMAND = [sys.executable, "-m", "batchyard.cli.main", "results"]
OUTPUT = {"path": "out"}


def results(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture
def done(job):
    """A job that has run."""
    job.write(output=OUTPUT)
    assert job.run().code == 0
    return job


@pytest.mark.parametrize("source", ["job", "out", "./out/", "batchjob.yaml"])
def test_a_job_a_folder_and_a_manifest_mean_the_same_results(done, source):
    manifest = next(done.folder.glob("*.yaml")).name
    ran = results(done.folder, source.replace("batchjob.yaml", manifest))
    assert ran.stderr == ""
    assert ran.returncode == 0
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [{"position": n, "result": n} for n in range(5)]


def test_csv_has_every_column_that_any_line_has(tmp_path):
    parts = Parts(tmp_path / "out")
    parts.write(0, b'{"position":0,"result":{"label":"a,b"}}\n{"position":1,"result":{"label":"c","score":0.5}}\n')
    parts.write(1000, b'{"position":2,"result":7}\n')
    parts.put("manifest.json", [b"{}"])
    ran = results(tmp_path, "out", "--format", "csv")
    assert ran.stdout == 'position,label,score,result\n0,"a,b",,\n1,c,0.5,\n2,,,7\n'
    ran = results(tmp_path, "out", "--format", "csv", "--columns", "score,position")
    assert ran.stdout == "score,position\n,0\n0.5,1\n,2\n"


def test_a_file_is_written_whole_or_not_at_all(done):
    assert results(done.folder, "job", "-o", "all.jsonl").returncode == 0
    assert len((done.folder / "all.jsonl").read_text().splitlines()) == 5
    before = sorted(path.name for path in done.folder.iterdir())
    next((done.folder / "out" / "parts").rglob("*.jsonl")).write_text("no json\n")
    ran = results(done.folder, "job", "--format", "csv", "-o", "all.jsonl")
    assert ran.returncode == 2
    assert "found b'no json\\n' in a part, expected a JSON object a line" in ran.stderr
    assert len((done.folder / "all.jsonl").read_text().splitlines()) == 5
    assert sorted(path.name for path in done.folder.iterdir()) == before


def test_a_job_that_has_not_ended_is_told_on_the_side(done):
    (done.folder / "out" / "manifest.json").unlink()
    ran = results(done.folder, "job")
    assert ran.returncode == 0
    assert len(ran.stdout.splitlines()) == 5
    assert "the job has not ended, more results may come" in ran.stderr


def test_results_that_no_part_holds_are_an_empty_file(tmp_path):
    Parts(tmp_path).put("manifest.json", [b"{}"])
    assert (results(tmp_path, ".").stdout, results(tmp_path, ".", "--format", "csv").stdout) == ("", "result\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["jop"], "Did you mean 'job'?", id="a name that is nearly right"),
        pytest.param(["nothing-at-all"], "found no job, folder or manifest 'nothing-at-all'", id="no such thing"),
        pytest.param(["."], "holds no results: found no manifest.json and no parts there", id="another folder"),
        pytest.param(["job", "-o", "no/such/file"], "no/such/file cannot be written", id="a file in no folder"),
        pytest.param(["job", "--columns", "a"], "expected --format csv", id="columns of JSON lines"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(done, arguments, told):
    ran = results(done.folder, *arguments)
    assert ran.returncode == 2
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


def test_a_job_without_an_output_is_told(job):
    job.write()
    assert job.run().code == 0
    assert "job job has no spec.output: its results were not kept" in results(job.folder, "job").stderr


def test_a_reader_that_leaves_ends_it_quietly(tmp_path):
    parts = Parts(tmp_path)
    for index in range(50):
        parts.write(index, b'{"position":0,"result":"' + b"x" * 100_000 + b'"}\n')
    process = subprocess.Popen([*COMMAND, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(60) == 1
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
