import json
import os

import pytest
from batchyard.api.messages import Header, encode
from batchyard.api.names import batch_id
from batchyard.output.finish import write_errors, write_manifest
from batchyard.output.parts import OutputInvalid, OutputUnavailable, Parts
from batchyard.output.read import read_results
from batchyard.queue.port import Counts, FailedBatch, Failure


def tree(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def failed_batch(index: int, items: bytes = b'[{"a":\r\n 1}, NaN]', **fields) -> FailedBatch:
    failure = Failure("HandlerError", fields.pop("error", "ValueError: é"), "Traceback …", 1_700_000_000.25)
    return FailedBatch(index, encode(Header(index * 2, 2, **fields), items), 3, failure)


# --- parts ---


def test_a_part_lies_under_its_batchs_name_and_a_repeated_batch_replaces_it(tmp_path):
    parts = Parts(tmp_path / "new/out")
    parts.write(12_345, b"1\n")
    parts.write(12_345, b"2\n")
    assert tree(tmp_path) == ["new/out/parts/000012/part-000012345.jsonl"]
    assert (tmp_path / "new/out/parts/000012/part-000012345.jsonl").read_bytes() == b"2\n"


def test_no_result_is_no_part_and_takes_an_earlier_one_away(tmp_path):
    parts = Parts(tmp_path)
    parts.write(0, b"")
    parts.write(1, b"1\n")
    parts.write(1, b"")
    assert tree(tmp_path) == []


def test_a_part_can_be_read_by_whom_the_umask_lets(tmp_path):
    mask = os.umask(0o027)
    try:
        Parts(tmp_path).write(0, b"1\n")
    finally:
        os.umask(mask)
    assert (tmp_path / "parts/000000/part-000000000.jsonl").stat().st_mode & 0o777 == 0o640


def test_a_file_is_never_half_there(tmp_path):
    parts = Parts(tmp_path)
    parts.put("errors.jsonl", [b"old\n"])

    def broken():
        yield b"new"
        raise RuntimeError("killed here")

    with pytest.raises(RuntimeError):
        parts.put("errors.jsonl", broken())
    assert (tmp_path / "errors.jsonl").read_bytes() == b"old\n"
    assert tree(tmp_path) == ["errors.jsonl"]


def test_parts_are_listed_in_the_order_of_the_input(tmp_path):
    parts = Parts(tmp_path)
    for index in (1000, 2, 0, 999):
        parts.write(index, b"%d\n" % index)
    (tmp_path / "parts/000000/notes.txt").write_text("not ours")
    assert [stored.name[-6 - 9 : -6] for stored in parts.written()] == [f"{i:09d}" for i in (0, 2, 999, 1000)]


def test_a_fresh_run_removes_our_files_alone(tmp_path):
    parts = Parts(tmp_path)
    parts.write(0, b"1\n")
    parts.write(1000, b"1\n")
    for name in ("errors.jsonl", "manifest.json"):
        parts.put(name, [b"{}"])
    for foreign in ("README.md", "parts/000001/mine.txt", "data.jsonl"):
        (tmp_path / foreign).write_text("theirs")
    parts.prepare(fresh=True)
    assert tree(tmp_path) == ["README.md", "data.jsonl", "parts/000001/mine.txt"]
    assert not (tmp_path / "parts/000000").exists()


def test_a_resumed_run_keeps_results_and_removes_what_killed_writers_left(tmp_path):
    parts = Parts(tmp_path)
    parts.write(0, b"1\n")
    (tmp_path / ".partial").mkdir(exist_ok=True)
    (tmp_path / ".partial/part-000000001.jsonl.abc").write_text("hal")
    parts.prepare(fresh=False)
    assert tree(tmp_path) == ["parts/000000/part-000000000.jsonl"]
    assert not (tmp_path / ".partial").exists()


def test_a_folder_that_is_not_there_needs_no_preparing(tmp_path):
    Parts(tmp_path / "none").prepare(fresh=True)
    assert list(Parts(tmp_path / "none").written()) == []


def test_checking_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    Parts(tmp_path / "a/b").check_writable()
    assert list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_a_path_that_is_a_file_is_refused(tmp_path, path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputInvalid, match=r"^output.path: results cannot be written: .*/file: it is a file"):
        Parts(tmp_path / path).check_writable()
    with pytest.raises(OutputUnavailable, match="it is a file, not a folder"):
        Parts(tmp_path / path).write(0, b"1\n")


# --- errors.jsonl ---


def test_a_failed_batch_is_one_line_with_its_items(tmp_path):
    batches = [failed_batch(1), failed_batch(7, invalid="data.jsonl:3: found …", items=b'["oops"]')]
    assert write_errors(iter(batches), "job-1", Parts(tmp_path)) == 2
    first, second = (json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines())
    items = first.pop("items")
    assert first == {
        "batch": 1,
        "batchId": batch_id("job-1", 1),
        "attempts": 3,
        "reason": "HandlerError",
        "error": "ValueError: é",
        "detail": "Traceback …",
        "time": "2023-11-14T22:13:20.250Z",
        "positions": [2, 3],
    }
    assert items[0] == {"a": 1}
    assert items[1] != items[1]
    assert (second["batch"], second["positions"], second["items"]) == (7, [14, 15], ["oops"])


def test_without_a_failed_batch_there_is_no_errors_file(tmp_path):
    parts = Parts(tmp_path)
    write_errors([failed_batch(1)], "job-1", parts)
    assert write_errors([], "job-1", parts) == 0
    assert tree(tmp_path) == []


@pytest.mark.parametrize("body", [b"", b"not ours", b"[1]\n[2]"])
def test_a_body_that_cannot_be_decoded_is_told_without_items(tmp_path, body):
    write_errors([FailedBatch(0, body, 1, Failure("X", "half a pair \ud800"))], "job-1", Parts(tmp_path))
    line = json.loads((tmp_path / "errors.jsonl").read_text())
    assert (line["items"], line["positions"], line["error"]) == (None, None, "half a pair \ud800")


# --- manifest.json and reading back ---


def test_the_manifest_tells_what_lies_there(tmp_path):
    parts = Parts(tmp_path)
    parts.write(0, b'{"position":0,"result":1}\n')
    parts.write(2, b'{"position":4,"result":2}\n')
    write_manifest(
        parts,
        job="digits",
        job_id="job-1",
        state="CompletedWithFailures",
        start_time=1_700_000_000,
        completion_time=1_700_000_060.5,
        counts=Counts(published=3, succeeded=2, failed=1, running=0),
        items=6,
    )
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest.pop("batchyard")
    assert manifest == {
        "job": "digits",
        "jobId": "job-1",
        "state": "CompletedWithFailures",
        "startTime": "2023-11-14T22:13:20.000Z",
        "completionTime": "2023-11-14T22:14:20.500Z",
        "batches": {"total": 3, "succeeded": 2, "failed": 1},
        "items": 6,
        "parts": {"count": 2, "bytes": 52, "pattern": "parts/*/part-*.jsonl"},
        "errors": "errors.jsonl",
    }
    assert len(list(tmp_path.glob(manifest["parts"]["pattern"]))) == 2
    assert not (tmp_path / ".partial").exists()


def test_results_come_back_in_the_order_of_the_input(tmp_path):
    parts = Parts(tmp_path)
    for index in (1000, 0, 2):
        parts.write(index, b"".join(b'{"position":%d,"result":"\\ud800"}\n' % p for p in (index, index + 1)))
    assert [line["position"] for line in read_results(tmp_path)] == [0, 1, 2, 3, 1000, 1001]
