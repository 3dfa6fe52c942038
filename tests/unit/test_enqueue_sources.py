import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from batchyard.api.messages import decode_items
from batchyard.enqueue.count import count
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.enqueue.sources import source_of
from batchyard.enqueue.split import Batch, InputInvalid, split


def write(folder: Path, files: dict[str, bytes | str]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def settings_for(folder: Path, kind: str = "delimitedFiles", size: int = 1, **given: Any) -> EnqueueSettings:
    batching = {"batch_size": size, "allow_empty": given.pop("allow_empty", False)}
    return EnqueueSettings(input=InputSettings(kind=kind, **given), folder=folder, **batching)


def batches_of(settings: EnqueueSettings) -> list[Batch]:
    return list(split(source_of(settings).runs(), settings.batch_size))


def items_of(settings: EnqueueSettings) -> list[Any]:
    return [item for batch in batches_of(settings) for item in decode_items(batch.body)]


def files_of(folder: Path, **given: Any) -> list[str]:
    return [os.path.relpath(path, folder) for path in items_of(settings_for(folder, "files", **given))]


# --- which files ---

NAMES = ["d/a.jpg", "d/b.txt", "d/sub/c.jpg", "d/.hidden", "d/.git/x.jpg", "x[1].csv"]


def test_files_come_in_byte_order_of_their_paths_as_an_object_store_lists_them(tmp_path):
    names = ["a-b", "a.txt", "a/z", "a/b/c", "a0", "B", "é"]
    write(tmp_path / "d", dict.fromkeys(names, b""))
    assert files_of(tmp_path / "d", paths=["."]) == sorted(names, key=str.encode)


def test_an_item_of_files_is_an_absolute_path(tmp_path):
    write(tmp_path, {"d/a": b""})
    assert items_of(settings_for(tmp_path, "files", paths=["d"])) == [str(tmp_path / "d/a")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"paths": ["d"]}, ["d/a.jpg", "d/b.txt", "d/sub/c.jpg"], id="a folder, recursively"),
        pytest.param({"paths": ["d/b.txt"]}, ["d/b.txt"], id="a file"),
        pytest.param({"paths": ["d/*.jpg"]}, ["d/a.jpg"], id="a glob"),
        pytest.param({"paths": ["d/**/*.jpg"]}, ["d/a.jpg", "d/sub/c.jpg"], id="a glob over folders"),
        pytest.param({"paths": ["*/sub"]}, ["d/sub/c.jpg"], id="a glob that matches a folder"),
        pytest.param({"paths": ["d"], "includes": ["*.jpg"]}, ["d/a.jpg", "d/sub/c.jpg"], id="includes"),
        pytest.param({"paths": ["d"], "excludes": ["sub/"]}, ["d/a.jpg", "d/b.txt"], id="excludes"),
        pytest.param({"paths": ["d"], "includes": ["*.jpg"], "excludes": ["sub"]}, ["d/a.jpg"], id="both"),
        pytest.param({"paths": ["d/b.txt", "d"]}, ["d/b.txt", "d/a.jpg", "d/sub/c.jpg"], id="a file in two paths"),
        pytest.param({"paths": ["d", "d/../d/sub"]}, ["d/a.jpg", "d/b.txt", "d/sub/c.jpg"], id="a folder in another"),
        pytest.param({"paths": ["d/*.jpg", "d/a*"]}, ["d/a.jpg"], id="two globs for one file"),
        pytest.param({"paths": ["x[1].csv"]}, ["x[1].csv"], id="a file whose name looks like a glob"),
        pytest.param({"paths": ["d"], "includes": [".hid*"]}, ["d/.hidden"], id="a hidden file that is named"),
        pytest.param({"paths": ["d/.hidden"]}, ["d/.hidden"], id="a hidden file given as path"),
    ],
)
def test_selects_files(tmp_path, given, expected):
    write(tmp_path, dict.fromkeys(NAMES, b""))
    assert files_of(tmp_path, **given) == expected


def test_links_are_followed_and_a_link_to_a_folder_above_is_not_walked_again(tmp_path):
    write(tmp_path, {"d/a": b"", "other/b": b""})
    (tmp_path / "d/up").symlink_to(tmp_path / "d")
    (tmp_path / "d/other").symlink_to(tmp_path / "other")
    assert files_of(tmp_path, paths=["d"]) == ["d/a", "d/other/b"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            {"paths": ["imges"]},
            r"^input.files.paths\[0\]: found 'imges', and there is no '.*/imges', expected a file, folder or glob\. "
            r"Did you mean '.*/images'\?$",
            id="a path that does not exist",
        ),
        pytest.param({"paths": ["images", "no/such/*.jpg"]}, r"paths\[1\]: found 'no/such'", id="a glob's folder"),
        pytest.param({"paths": ["images/a.JPG/x"]}, "a file, folder or glob", id="a path below a file"),
        pytest.param({"paths": ["images"], "includes": ["*.jpg"]},
                     r"with includes \['\*.jpg'\] select none of the 2 files looked at \(the first is 'a.JPG'\)",
                     id="includes that select nothing"),
        pytest.param({"paths": ["images/*.png"]}, "select none of the 2 files", id="a glob that matches nothing"),
        pytest.param({"paths": ["pipe"]}, "neither a file nor a folder", id="a pipe"),
        pytest.param({"paths": ["images"], "excludes": ["!x"]}, "input.files.excludes: ", id="a pattern"),
        pytest.param({"paths": ["broken"]}, "link to nothing", id="a link to nothing"),
    ],
)  # fmt: skip
def test_refuses_paths(tmp_path, given, sentence):
    write(tmp_path, dict.fromkeys(["images/a.JPG", "images/b.JPG"], b""))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/link").symlink_to("nowhere")
    with pytest.raises(InputInvalid, match=sentence):
        files_of(tmp_path, **given)


def test_a_file_name_that_is_not_utf8_is_refused_by_name(tmp_path):
    (tmp_path / os.fsdecode(b"a\xff.jpg")).touch()
    with pytest.raises(InputInvalid, match="not UTF-8"):
        files_of(tmp_path, paths=["."])


# --- what is in them ---


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"a.jsonl": "1\n2\n", "b.jsonl": "3"}, [1, 2, 3], id="JSON lines"),
        pytest.param({"a.jsonl": "", "b.jsonl": "3"}, [3], id="a 0-byte file"),
        pytest.param({"a.jsonl": b"\xef\xbb\xbf1\n2\n"}, [1, 2], id="a byte order mark"),
        pytest.param({"a.csv": b"\xef\xbb\xbfx,y\n1,2\n"}, [{"x": "1", "y": "2"}], id="a byte order mark before CSV"),
        pytest.param({"a.tsv": "x\ty\n1\t2\n"}, [{"x": "1", "y": "2"}], id="TSV"),
        pytest.param({"a.CSV": "x\n1\n"}, [{"x": "1"}], id="a name in capitals"),
        pytest.param({"a.csv.gz": gzip.compress(b"x\n1\n")}, [{"x": "1"}], id="CSV in gzip"),
        pytest.param({"a.jsonl.gz": gzip.compress(b"1\n") + gzip.compress(b"2\n")}, [1, 2], id="gzip of two members"),
        pytest.param({"a.jsonl": gzip.compress(b"1\n2")}, [1, 2], id="gzip without .gz in its name"),
        pytest.param({"a.jsonl.gz": b""}, [], id="a 0-byte file called gzip"),
        pytest.param({"a.json": "[1, 2]"}, [[1, 2]], id="one array of numbers is one item"),
        pytest.param({"a.json": '[{"x": 1}]\n[{"x": 2}]'}, [[{"x": 1}], [{"x": 2}]], id="several arrays"),
        pytest.param({"a.jsonl": '[{"x": 1}, {"x": 2}]'}, [[{"x": 1}, {"x": 2}]], id="one array in a .jsonl"),
        pytest.param({"a.json": '{\n "x": [\n1\n]\n}\n'}, [{"x": [1]}], id="pretty-printed"),
    ],
)
def test_reads_the_items_of_delimited_files(tmp_path, files, expected):
    write(tmp_path, files)
    assert items_of(settings_for(tmp_path, paths=["."], allow_empty=True)) == expected


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        pytest.param({"a.json": '[{"x": 1},\n {"x": 2}]'}, "found one JSON array of 2 objects.*jq -c", id="an array"),
        pytest.param({"a.jsonl.gz": gzip.compress(b"1\n" * 9999)[:-9]}, "data that ends too early", id="cut gzip"),
        pytest.param({"a.gz": gzip.compress(b"1\n") + b"junk"}, "damaged gzip data", id="junk behind gzip"),
        pytest.param({"a.jsonl.gz": b"1\n2\n"}, "found no gzip data", id="no gzip"),
        pytest.param({"a.parquet": b"PAR1"}, "a.parquet: found a Parquet file, expected JSON lines", id="Parquet"),
        pytest.param({"a.csv": "x,x\n1,2\n"}, "a.csv:1: found the column 'x' twice", id="a column twice"),
    ],
)  # fmt: skip
def test_refuses_a_file(tmp_path, files, sentence):
    write(tmp_path, files)
    with pytest.raises(InputInvalid, match=sentence):
        items_of(settings_for(tmp_path, paths=["."]))


def test_damaged_gzip_is_refused(tmp_path):
    data = bytearray(gzip.compress(os.urandom(10_000)))
    data[500:520] = bytes(20)
    write(tmp_path, {"a.jsonl.gz": bytes(data)})
    with pytest.raises(InputInvalid, match=r"a.jsonl.gz"):
        list(split(source_of(settings_for(tmp_path, paths=["."])).runs(), 1))


def test_inline_items_keep_what_json_has_no_word_for(tmp_path):
    settings = settings_for(tmp_path, "items", items=[float("nan"), float("inf"), "\ud800", None, {"a": [10**30]}])
    again = EnqueueSettings.model_validate_json(
        settings_for(tmp_path, "items", items=[float("inf")]).model_dump_json()
    )
    nan, *rest = items_of(settings)
    assert nan != nan
    assert rest == [float("inf"), "\ud800", None, {"a": [10**30]}]
    assert items_of(again) == [float("inf")]


def test_inline_items_may_stand_in_a_file(tmp_path):
    write(tmp_path, {"items.json": "[1, NaN]", "object.json": "{}", "broken.json": "["})
    assert items_of(settings_for(tmp_path, "items", items_file="items.json"))[0] == 1
    for name in ("object.json", "broken.json", "missing.json"):
        with pytest.raises(InputInvalid, match=name):
            items_of(settings_for(tmp_path, "items", items_file=name))


# --- going on ---

MIXED = {
    "a.jsonl": '1\n2 3\n{"x":\n4}\n\n5\n',
    "b.csv": 'x,y\n1,"p\nq"\n2\n3,4\n',
    "c.jsonl.gz": gzip.compress(b"6\noops\n7\n"),
    "d.jsonl": "",
    "e.json": "8",
    "f.jsonl": b"\xef\xbb\xbf9\n10",
}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_source_can_be_entered_behind_any_batch(tmp_path, size):
    write(tmp_path, MIXED)
    settings = settings_for(tmp_path, paths=["f.jsonl", "."], size=size)
    whole = batches_of(settings)
    assert sum(batch.header.count for batch in whole) == 14
    for i, batch in enumerate(whole):
        rest = list(split(source_of(settings).runs(batch.mark), size, batch.end))
        assert rest == whole[i + 1 :]


@pytest.mark.parametrize("kind", ["files", "items"])
def test_files_and_inline_items_can_be_entered_behind_any_batch(tmp_path, kind):
    write(tmp_path, dict.fromkeys(["a/1", "a/2", "a-b", "b/c/d", "z"], b""))
    given = {"paths": ["b", "."]} if kind == "files" else {"items": list(range(5))}
    settings = settings_for(tmp_path, kind, size=2, **given)
    whole = batches_of(settings)
    assert len(whole) == 3
    for i, batch in enumerate(whole):
        assert list(split(source_of(settings).runs(batch.mark), 2, batch.end)) == whole[i + 1 :]


def test_a_file_that_changed_or_went_since_is_refused(tmp_path):
    write(tmp_path, {"a.jsonl": "1\n2\n", "b.jsonl": "3\n"})
    settings = settings_for(tmp_path, paths=["."])
    mark = batches_of(settings)[0].mark
    write(tmp_path, {"a.jsonl": "1\n2\n3\n"})
    with pytest.raises(InputInvalid, match=r"a.jsonl: found the file changed"):
        list(source_of(settings).runs(mark))
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(InputInvalid, match=r"a.jsonl: found the file changed .*it is gone"):
        list(source_of(settings).runs(mark))


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path):
    write(tmp_path, {"a.jsonl": "1\n" * 1000})
    runs = source_of(settings_for(tmp_path, paths=["."])).runs()
    next(runs)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("2\n")
    with pytest.raises(InputInvalid, match="written to while it was read"):
        list(runs)


# --- counting ---


def test_count_tells_what_enqueuing_would_do(tmp_path):
    write(tmp_path, MIXED)
    settings = settings_for(tmp_path, paths=["."], size=3)
    facts = count(settings)
    whole = batches_of(settings)
    assert (facts.items, facts.batches, facts.files) == (14, len(whole), 6)
    assert facts.bytes == sum(len(batch.body.partition(b"\n")[2]) for batch in whole)
    assert facts.largest_batch_bytes == max(len(batch.body) for batch in whole)
    assert facts.malformed_count == 2
    assert [message.partition(": ")[0] for message in facts.malformed] == ["b.csv:4", "c.jsonl.gz:2"]


def test_count_tells_the_first_ten_malformed_lines(tmp_path):
    write(tmp_path, {"a.jsonl": "oops\n" * 12})
    facts = count(settings_for(tmp_path, paths=["a.jsonl"]))
    assert (len(facts.malformed), facts.malformed_count) == (10, 12)
    assert facts.malformed[9].startswith("a.jsonl:10: found 'oops'")


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        pytest.param(
            "delimitedFiles", {"paths": ["."]}, r"input.delimitedFiles: found no items in 1 file, ", id="files"
        ),
        pytest.param("items", {"items": []}, r"input.items: found no items, expected at least one\.", id="inline"),
        pytest.param("files", {"paths": ["empty"]}, r"input.files: found no items, ", id="an empty folder"),
    ],
)
def test_an_empty_input_is_refused_unless_it_is_allowed(tmp_path, kind, given, sentence):
    write(tmp_path, {"a.jsonl": ""})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputInvalid, match=sentence):
        count(settings_for(tmp_path, kind, **given))
    assert count(settings_for(tmp_path, kind, **given, allow_empty=True)).batches == 0


def test_settings_with_other_items_or_sizes_have_another_digest(tmp_path):
    base = settings_for(tmp_path, "items", items=[1])
    assert base.digest() == settings_for(tmp_path, "items", items=[1], allow_empty=True).digest()
    assert base.digest() != settings_for(tmp_path, "items", items=[2]).digest()
    assert base.digest() != settings_for(tmp_path, "items", items=[1], size=2).digest()
    assert json.loads(base.model_dump_json())["input"]["items"] == [1]
