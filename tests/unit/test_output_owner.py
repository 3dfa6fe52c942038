"""Whose an output folder is, and what is refused of one that is somebody else's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from batchyard.output.owner import OWNER, Owner, check_owner, claim
from batchyard.output.parts import OutputInvalid, Parts


def owner_of(folder: Path, **fields: str) -> Owner:
    return replace(Owner(job="digits", jobId="run-1", home="/gone/.batchyard/digits", path=str(folder)), **fields)


def test_a_new_folder_becomes_the_jobs_own_and_holds_nothing_but_the_owner(tmp_path):
    claim(Parts(tmp_path / "out"), owner_of(tmp_path / "out"), None)
    assert json.loads((tmp_path / "out" / OWNER).read_text())["jobId"] == "run-1"
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == [OWNER]


@pytest.mark.parametrize(
    ("other", "known_run"),
    [
        pytest.param({"jobId": "run-2"}, None, id="the same job, its state forgotten"),
        pytest.param({"jobId": "run-2", "home": "/moved/.batchyard/digits"}, "run-1", id="moved, output elsewhere"),
        pytest.param({"jobId": "run-2", "home": "/copy", "path": "/copy/out"}, "run-1", id="copied with its project"),
    ],
)
def test_a_later_run_of_the_job_takes_its_folder_over(tmp_path, other, known_run):
    parts = Parts(tmp_path)
    claim(parts, owner_of(tmp_path), None)
    claim(parts, owner_of(tmp_path, **other), known_run)
    assert json.loads((tmp_path / OWNER).read_text())["jobId"] == "run-2"


@pytest.mark.parametrize(
    ("other", "known_run"),
    [
        pytest.param({"jobId": "run-2", "job": "letters"}, None, id="another name"),
        pytest.param({"jobId": "run-2", "home": "/else/.batchyard/digits"}, None, id="the same name elsewhere"),
        pytest.param({"jobId": "run-2", "home": "/else/.batchyard/digits"}, "run-0", id="another run elsewhere"),
    ],
)
def test_another_jobs_folder_is_refused_by_name_and_stays_as_it_is(tmp_path, other, known_run):
    parts = Parts(tmp_path)
    claim(parts, owner_of(tmp_path), None)
    before = (tmp_path / OWNER).read_bytes()
    with pytest.raises(OutputInvalid, match=r"holds the results of another job, digits .*--output PATH"):
        claim(parts, owner_of(tmp_path, **other), known_run)
    assert (tmp_path / OWNER).read_bytes() == before


def test_a_copy_of_a_project_whose_output_is_still_the_originals_is_refused(tmp_path):
    home = tmp_path / "original"
    home.mkdir()
    parts = Parts(tmp_path / "out")
    claim(parts, owner_of(tmp_path / "out", home=str(home)), None)
    with pytest.raises(OutputInvalid, match="another job"):
        check_owner(parts, owner_of(tmp_path / "out", home="/copy", jobId="run-2"), "run-1")


@pytest.mark.parametrize("name", ["manifest.json", "errors.jsonl", "parts/000000/part-000000000.jsonl"])
def test_files_that_a_run_would_clear_are_refused_unless_it_resumes(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")
    with pytest.raises(OutputInvalid, match=f"holds {name}, which no job has marked as its own"):
        claim(Parts(tmp_path), owner_of(tmp_path), "run-0")
    assert file.read_text() == "{}"
    claim(Parts(tmp_path), owner_of(tmp_path), "run-1", resumes=True)
    assert (tmp_path / OWNER).exists()


def test_an_owner_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / OWNER).write_text("[]")
    with pytest.raises(OutputInvalid, match="does not name a job"):
        check_owner(Parts(tmp_path), owner_of(tmp_path), None)
