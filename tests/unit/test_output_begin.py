"""What is done with an output before the first result: checked, claimed, cleared, in this order."""

from pathlib import Path

import pytest
from batchyard.output.begin import begin_output, check_output
from batchyard.output.owner import OWNER, Owner
from batchyard.output.parts import OutputInvalid, Parts


def owner_of(folder: Path, job: str = "digits", run: str = "run-1") -> Owner:
    return Owner(job=job, jobId=run, home=f"team/{job}", path=str(folder))


def with_results(folder: Path) -> Parts:
    parts = Parts(folder)
    begin_output(parts, owner_of(folder), None, fresh=True)
    for index in (0, 1000):
        parts.write(index, b"1\n")
    for name in ("manifest.json", "errors.jsonl", "mine.txt"):
        parts.put(name, [b"{}"])
    return parts


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_fresh_run_finds_its_own_files_gone_and_is_told_right_before(tmp_path):
    parts = with_results(tmp_path)
    seen: list[list[str]] = []
    begin_output(
        parts, owner_of(tmp_path, run="run-2"), None, fresh=True, before_clearing=lambda: seen.append(tree(tmp_path))
    )
    assert tree(tmp_path) == [OWNER, "mine.txt"]
    assert seen == [[OWNER, "errors.jsonl", "manifest.json", "mine.txt", *PARTS]]
    assert "run-2" in (tmp_path / OWNER).read_text()


PARTS = ["parts/000000/part-000000000.jsonl", "parts/000001/part-000001000.jsonl"]


def test_a_resumed_run_keeps_all_but_the_manifest(tmp_path):
    parts = with_results(tmp_path)
    begin_output(parts, owner_of(tmp_path), "run-1", fresh=False, resumes=True)
    assert tree(tmp_path) == [OWNER, "errors.jsonl", "mine.txt", *PARTS]


def begin_fresh(parts: Parts, owner: Owner, known_run: str | None) -> None:
    begin_output(parts, owner, known_run, fresh=True, before_clearing=lambda: pytest.fail("told"))


@pytest.mark.parametrize("refuse", [check_output, begin_fresh])
def test_another_jobs_output_is_left_as_it_is(tmp_path, refuse):
    with_results(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(OutputInvalid, match="the results of another job, digits"):
        refuse(Parts(tmp_path), owner_of(tmp_path, job="letters"), None)
    assert tree(tmp_path) == before


def test_a_path_that_is_no_folder_is_told_before_its_owner_is_looked_for(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputInvalid, match=r"^output.path: results cannot be written: .*it is a file, not a folder"):
        check_output(Parts(tmp_path / "file" / "below"), owner_of(tmp_path), None)
