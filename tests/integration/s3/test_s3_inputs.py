"""Inputs in a bucket, on a real S3 server: which keys are selected, what is read of them, where it goes on."""

import gzip
import json
import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from batchyard.api.messages import decode_items
from batchyard.api.storage import StorageSettings
from batchyard.enqueue import ahead
from batchyard.enqueue.count import count
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.enqueue.sources import source_of
from batchyard.enqueue.split import Batch, InputInvalid, split
from s3_server import BUCKET, READER, WRITER, S3Server, SpoilingProxy

ODD = ["a b", "a+b", "a%20b", "a&b=c?d#e", "é/ü", "日本", "[1].csv", "*.txt", "~'\"", "x/y.z/w"]


@pytest.fixture
def put(s3: S3Server, new_prefix: Callable[[], str]) -> Callable[[dict[str, bytes | str]], str]:
    """A function that puts objects below a prefix of their own and returns that prefix, a key."""

    def put(files: dict[str, bytes | str], into: str = "") -> str:
        prefix, client = into or new_prefix().removeprefix(f"s3://{BUCKET}/"), s3.client()
        for name, content in files.items():
            body = content if isinstance(content, bytes) else content.encode()
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=body)
        return prefix

    return put


@pytest.fixture
def settings(s3: S3Server, tmp_path: Path) -> Callable[..., EnqueueSettings]:
    """A function that makes settings; ``{p}`` in paths and patterns stands for the prefix, ``{u}`` for its URL."""

    def settings(prefix: str = "", kind: str = "delimitedFiles", size: int = 1, endpoint: str = "", **given: Any):
        filled = {
            name: [text.replace("{u}", f"s3://{BUCKET}/{prefix}").replace("{p}", prefix) for text in texts]
            for name, texts in given.items()
        }
        source = InputSettings(kind=kind, **filled)
        storage = StorageSettings(endpoint=endpoint or s3.endpoint)
        return EnqueueSettings(input=source, folder=tmp_path, batch_size=size, storage=storage)

    return settings


def batches_of(settings: EnqueueSettings) -> list[Batch]:
    return list(split(source_of(settings).runs(), settings.batch_size))


def items_of(settings: EnqueueSettings) -> list[Any]:
    return [item for batch in batches_of(settings) for item in decode_items(batch.body)]


# --- which keys ---

KEYS = ["d/a.jpg", "d/b.txt", "d/sub/c.jpg", "d/.hidden", "d/.git/x.jpg", "dd/e.jpg", "d+/f.jpg", "[1].csv"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"paths": ["{u}/d"]}, ["d/a.jpg", "d/b.txt", "d/sub/c.jpg"], id="a prefix, as a folder"),
        pytest.param({"paths": ["{u}/d/"]}, ["d/a.jpg", "d/b.txt", "d/sub/c.jpg"], id="a prefix with its slash"),
        pytest.param({"paths": ["{u}/d/b.txt"]}, ["d/b.txt"], id="a key"),
        pytest.param({"paths": ["{u}/d/*.jpg"]}, ["d/a.jpg"], id="a glob"),
        pytest.param({"paths": ["{u}/d/**/*.jpg"]}, ["d/a.jpg", "d/sub/c.jpg"], id="a glob over folders"),
        pytest.param({"paths": ["{u}/d*/*.jpg"]}, ["d+/f.jpg", "d/a.jpg", "dd/e.jpg"], id="a glob for folders"),
        pytest.param({"paths": ["{u}/d"], "includes": ["*.jpg"]}, ["d/a.jpg", "d/sub/c.jpg"], id="at any depth"),
        pytest.param({"paths": ["{u}/d"], "includes": ["{p}/d/*.jpg"]}, ["d/a.jpg"], id="from the bucket on"),
        pytest.param({"paths": ["{u}"], "includes": ["{p}/**/sub/*"]}, ["d/sub/c.jpg"], id="a pattern over folders"),
        pytest.param({"paths": ["{u}/d"], "excludes": ["sub/"]}, ["d/a.jpg", "d/b.txt"], id="excludes of a folder"),
        pytest.param({"paths": ["{u}/d"], "includes": ["*.jpg", "*.txt"], "excludes": ["b.*", "{p}/d/sub/**"]},
                     ["d/a.jpg"], id="includes, then excludes"),
        pytest.param({"paths": ["{u}/d/b.txt", "{u}/d"]}, ["d/b.txt", "d/a.jpg", "d/sub/c.jpg"], id="a key in two"),
        pytest.param({"paths": ["{u}/d/sub", "{u}"], "includes": ["*.jpg"]},
                     ["d/sub/c.jpg", "d+/f.jpg", "d/a.jpg", "dd/e.jpg"], id="a prefix in another"),
        pytest.param({"paths": ["{u}/[1].csv"]}, ["[1].csv"], id="a key that looks like a glob"),
        pytest.param({"paths": ["{u}/d"], "includes": [".hid*"]}, ["d/.hidden"], id="a hidden key that is named"),
        pytest.param({"paths": ["{u}/d/.hidden"]}, ["d/.hidden"], id="a hidden key given as path"),
        pytest.param({"paths": ["{u}/d/.git"], "includes": ["*.jpg"]}, ["d/.git/x.jpg"], id="below a hidden prefix"),
    ],
)  # fmt: skip
def test_selects_keys(put, settings, given, expected):
    prefix = put(dict.fromkeys(KEYS, b""))
    found = items_of(settings(prefix, "files", **given))
    # the order of a listing is the store's own
    assert sorted(found) == sorted(f"s3://{BUCKET}/{prefix}/{name}" for name in expected)
    if len(given["paths"]) > 1:
        assert found[0] == f"s3://{BUCKET}/{prefix}/{expected[0]}"


def test_an_item_of_files_is_the_whole_url_whatever_the_key(put, settings):
    prefix = put(dict.fromkeys(ODD, b"x"))
    assert set(items_of(settings(prefix, "files", paths=["{u}"]))) == {f"s3://{BUCKET}/{prefix}/{k}" for k in ODD}
    for key in ODD:
        assert items_of(settings(prefix, "files", paths=[f"{{u}}/{key}"])) == [f"s3://{BUCKET}/{prefix}/{key}"]


def test_empty_markers_of_folders_are_skipped(s3, put, settings):
    prefix = put({"d/a": b"1"})
    for marker in ("", "d/", "d/empty/"):
        s3.client().put_object(Bucket=BUCKET, Key=f"{prefix}/{marker}", Body=b"")
    assert items_of(settings(prefix, "files", paths=["{u}"])) == [f"s3://{BUCKET}/{prefix}/d/a"]
    assert items_of(settings(prefix, paths=["{u}/"])) == [1]


def test_paths_of_a_bucket_and_of_this_machine_come_in_their_order(put, settings, tmp_path):
    prefix = put({"b.jsonl": "2\n"})
    (tmp_path / "a.jsonl").write_text("1\n")
    (tmp_path / "c.jsonl").write_text("3\n")
    assert items_of(settings(prefix, paths=["a.jsonl", "{u}/b.jsonl", "c.jsonl"])) == [1, 2, 3]
    urls = items_of(settings(prefix, "files", paths=["c.jsonl", "{u}"]))
    assert urls == [str(tmp_path / "c.jsonl"), f"s3://{BUCKET}/{prefix}/b.jsonl"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param({"paths": ["{u}/imges/"]},
                     r"^input.files.paths\[0\]: found 's3://\S+/imges/', and there is nothing at this key or below "
                     r"it, expected a key, prefix or glob\. Did you mean 's3://\S+/images'\?$", id="nothing there"),
        pytest.param({"paths": ["{u}/images", "{u}/images/a.jpg"]}, r"paths\[1\]: .*Did you mean 's3://\S+/a.JPG'",
                     id="another case"),
        pytest.param({"paths": ["{u}/imag"]}, r"only longer names begin so.*write s3://\S+/imag\* for all", id="cut"),
        pytest.param({"paths": ["{u}/images"], "includes": ["*.jpg"]},
                     r"select none of the 2 files looked at \(the first is '\w+/images/a.JPG'\), expected at least "
                     r"one; in a bucket, patterns with a slash start at the bucket\.$", id="includes"),
        pytest.param({"paths": ["{u}/*.png"]}, "select none of the 2 files", id="a glob that matches nothing"),
        pytest.param({"paths": ["s3://no-such-bucket/x"]},
                     r"paths\[0\]: s3://no-such-bucket/x/?: there is no such bucket\.$", id="no such bucket"),
        pytest.param({"paths": ["{u}"], "excludes": ["!x"]}, "input.files.excludes: found '!x'", id="a pattern"),
    ],
)  # fmt: skip
def test_refuses_paths(put, settings, given, sentence):
    prefix = put(dict.fromkeys(["images/a.JPG", "images/b.JPG"], b""))
    with pytest.raises(InputInvalid, match=sentence):
        items_of(settings(prefix, "files", **given))


@pytest.mark.parametrize("path", ["{u}", "{u}/a.jsonl", "{u}/*.jsonl"])
def test_who_may_not_list_or_read_is_told_what_is_missing(put, settings, monkeypatch, path):
    prefix = put({"a.jsonl": "1\n"})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    with pytest.raises(InputInvalid, match=rf"^input.delimitedFiles.paths\[0\]: s3://{BUCKET}/\S+: access is denied"):
        items_of(settings(prefix, paths=[path]))


def test_who_may_only_read_reads(put, settings, monkeypatch):
    prefix = put({"a.jsonl": "1\n"})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    assert items_of(settings(prefix, paths=["{u}"])) == [1]


# --- what is in them ---


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"a.jsonl": "1\n2\n", "b.jsonl": "3"}, [1, 2, 3], id="JSON lines"),
        pytest.param({"a.jsonl": "", "b.jsonl": "3"}, [3], id="a 0-byte file"),
        pytest.param({"a.jsonl": "1 2 {\n}[\n3]"}, [1, 2, {}, [3]], id="concatenated values"),
        pytest.param({"a.csv": b"\xef\xbb\xbfx,y\n1,2\n"}, [{"x": "1", "y": "2"}], id="CSV"),
        pytest.param({"a.csv.gz": gzip.compress(b"x\n1\n")}, [{"x": "1"}], id="CSV in gzip"),
        pytest.param({"a.jsonl": gzip.compress(b"1\n2")}, [1, 2], id="gzip without .gz in its name"),
        pytest.param({"a.jsonl.gz": gzip.compress(b"1\n") + gzip.compress(b"2\n")}, [1, 2], id="gzip of two members"),
    ],
)
def test_reads_the_items_of_delimited_files(put, settings, files, expected):
    assert items_of(settings(put(files), paths=["{u}"])) == expected


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        pytest.param({"a.jsonl.gz": gzip.compress(b"1\n" * 9999)[:-9]}, "data that ends too early", id="cut gzip"),
        pytest.param({"a.gz": gzip.compress(b"1\n") + b"junk"}, "damaged gzip data", id="junk behind gzip"),
        pytest.param({"a.jsonl.gz": b"1\n2\n"}, "found no gzip data", id="no gzip"),
        pytest.param({"a.parquet": b"PAR1"}, "found a Parquet file, expected JSON lines", id="Parquet"),
    ],
)
def test_refuses_a_file_by_its_url(put, settings, files, sentence):
    with pytest.raises(InputInvalid, match=rf"^s3://{BUCKET}/\S+: {sentence}|{sentence}"):
        items_of(settings(put(files), paths=["{u}"]))


def test_a_file_of_many_pieces_is_read_in_order_and_only_once(s3, put, settings):
    lines = [json.dumps([i, os.urandom(1500).hex()]) for i in range(8000)]
    text = "\n".join(lines)
    assert len(text) > 4 * ahead.PIECE
    packed = gzip.compress(text.encode(), 1)
    prefix = put({"a.jsonl": text, "b.jsonl.gz": packed, "c.jsonl": '["end"]'})
    with closing(SpoilingProxy(s3.port, lambda *_: None)) as proxy:
        items = items_of(settings(prefix, size=100, paths=["{u}"], endpoint=proxy.endpoint))
        ranges = [
            headers["Range"].removeprefix("bytes=").split("-") for headers in proxy.headers if "Range" in headers
        ]
    assert [item[0] for item in items] == [*range(8000), *range(8000), "end"]
    assert [items[i][1] for i in (0, 7999, 8000, 15999)] == [json.loads(lines[i])[1] for i in (0, -1, 0, -1)]
    assert sum(int(stop) + 1 - int(start) for start, stop in ranges) == len(text) + len(packed) + 7


def test_counting_reads_a_bucket(put, settings):
    facts = count(settings(put({"a.jsonl": "1\noops\n", "b.csv": "x\n1\n"}), paths=["{u}"]))
    assert (facts.items, facts.files, facts.malformed_count) == (3, 2, 1)


# --- going on ---

MIXED = {
    "a.jsonl": '1\n2 3\n{"x":\n4}\n\n5\n',
    "b b.csv": 'x,y\n1,"p\nq"\n2\n3,4\n',
    "c.jsonl.gz": gzip.compress(b"6\noops\n7\n"),
    "d.jsonl": "",
    "e/e.json": "8",
    "f+f.jsonl": b"\xef\xbb\xbf9\n10",
}


@pytest.mark.parametrize("size", [1, 3])
def test_a_source_can_be_entered_behind_any_batch(put, settings, size):
    given = settings(put(MIXED), size=size, paths=["{u}/f+f.jsonl", "{u}"])
    whole = batches_of(given)
    assert sum(batch.header.count for batch in whole) == 14
    for i, batch in enumerate(whole):
        assert list(split(source_of(given).runs(batch.mark), size, batch.end)) == whole[i + 1 :]


def test_files_can_be_entered_behind_any_batch_also_when_the_last_one_is_gone(s3, put, settings):
    prefix = put(dict.fromkeys(ODD, b""))
    given = settings(prefix, "files", size=2, paths=["{u}/é", "{u}"])
    whole = batches_of(given)
    assert len(whole) == 5
    for i, batch in enumerate(whole[:-1]):
        s3.client().delete_object(Bucket=BUCKET, Key=batch.mark.origin.below)
        assert list(split(source_of(given).runs(batch.mark), 2, batch.end)) == whole[i + 1 :]


def test_a_file_that_was_replaced_or_went_since_is_refused(s3, put, settings):
    prefix = put({"a.jsonl": "1\n2\n", "b.jsonl": "3\n"})
    given = settings(prefix, paths=["{u}"])
    mark = batches_of(given)[0].mark
    put({"a.jsonl": "9\n2\n"}, into=prefix)
    with pytest.raises(InputInvalid, match=r"/a.jsonl: found the file changed .*ETag is not what it was"):
        list(source_of(given).runs(mark))
    s3.client().delete_object(Bucket=BUCKET, Key=f"{prefix}/a.jsonl")
    with pytest.raises(InputInvalid, match=r"/a.jsonl: found the file changed .*it is gone"):
        list(source_of(given).runs(mark))


def test_a_file_that_is_replaced_between_its_listing_and_its_end_is_refused(s3, put, settings):
    lines = "".join(f"{i:0999}\n" for i in range(30_000)).replace("\n0", '\n"').replace("\n", '"\n')
    prefix = put({"a.jsonl": '"' + lines[:-1]})
    runs = source_of(settings(prefix, paths=["{u}"])).runs()
    next(runs)
    put({"a.jsonl": '"x' + lines[1:-1]}, into=prefix)
    with pytest.raises(InputInvalid, match=r"/a.jsonl: found the file changed .*ETag is not what it was"):
        list(runs)


# --- as the how-to says ---


def told_rows() -> list[dict[str, list[str]]]:
    """Return the rows of the how-to's table of globs, each cell as its list of code spans."""
    page = (Path(__file__).parents[3] / "docs" / "howto" / "s3.md").read_text()
    lines = page.partition("| `paths` | `includes` |")[2].partition("\n\n")[0].splitlines()[2:]
    names = ("paths", "includes", "excludes", "taken")
    return [
        dict(zip(names, (re.findall("`([^`]+)`", cell) for cell in line.strip("|").split("|")), strict=True))
        for line in lines
    ]


def told_keys() -> list[str]:
    page = (Path(__file__).parents[3] / "docs" / "howto" / "s3.md").read_text()
    return page.partition("Let the bucket hold\n\n```\n")[2].partition("```")[0].split()


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=" ".join(row["paths"] + row["includes"])) for row in told_rows()]
)
def test_the_how_to_tells_what_is_taken(s3, settings, row):
    client = s3.client()
    assert len(told_keys()) == 8
    if "howto" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket="howto")
        for key in told_keys():
            client.put_object(Bucket="howto", Key=key, Body=b"")
    given = {name: row[name] for name in ("includes", "excludes")}
    given["paths"] = [path.replace("s3://bucket/", "s3://howto/") for path in row["paths"]]
    found = items_of(settings(kind="files", **given))
    assert sorted(found) == sorted(f"s3://howto/{key}" for key in row["taken"])
