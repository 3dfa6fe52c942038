"""What the storage door promises, the same for a folder on this machine and a prefix of a bucket."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from batchyard.storage.door import open_folder, split
from batchyard.storage.download import download, staged
from batchyard.storage.port import (
    Changed,
    NotThere,
    Storage,
    StorageRefused,
    StorageUnavailable,
    Stored,
    StoreOptions,
)
from s3_server import BUCKET, OWNER, REGION, S3Server, missing

NAMES = ["a b.txt", "a+b%20c.txt", "d/e f/g.bin", "päth/ünï/文.json", "quo'te\"&<x>.txt", "s#h?a=r&p;.txt", "z"]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if missing():
        pytest.skip(missing())
    server = S3Server(tmp_path_factory.mktemp("s3") / "server")
    yield server
    server.close()


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "local":
        return open_folder(str(tmp_path / "files"))
    server = request.getfixturevalue("s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    return open_folder(f"s3://{BUCKET}/{uuid4().hex}/", StoreOptions(endpoint=server.endpoint, region=REGION))


def put(storage: Storage, *names: str) -> None:
    for name in names:
        assert storage.put(name, [f"content of {name}".encode()]) == len(f"content of {name}".encode())


def names(files: Iterator[Stored]) -> list[str]:
    return [stored.name for stored in files]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_back_under_its_name_whatever_letters_it_has(storage: Storage, name: str) -> None:
    put(storage, name)
    with storage.open(name) as file:
        assert file.read() == f"content of {name}".encode()
    assert names(storage.list()) == [name]
    assert storage.stat(name) == next(iter(storage.list()))


def test_a_listing_yields_every_file_once_with_size_and_tag(storage: Storage) -> None:
    put(storage, *NAMES)
    found = list(storage.list())
    assert sorted(names(iter(found))) == sorted(NAMES)
    assert all(stored.etag and stored.size == len(f"content of {stored.name}".encode()) for stored in found)


def test_a_listing_below_a_folder_leaves_out_folders_whose_name_only_begins_so(storage: Storage) -> None:
    put(storage, "a/1", "a/b/2", "ab/3", "a.4")
    assert sorted(names(storage.list("a"))) == ["a/1", "a/b/2"]
    assert sorted(names(storage.list("a", beginning="b"))) == ["a/b/2"]
    assert sorted(names(storage.list(beginning="a"))) == ["a.4", "a/1", "a/b/2", "ab/3"]
    assert names(storage.list("nothing")) == []


def test_a_listing_goes_on_behind_the_last_file_seen(storage: Storage) -> None:
    put(storage, "x/1", "x/2", "x/3 +%", "x/y/4", "x/ö")
    everything = names(storage.list("x"))
    assert [names(storage.list("x", after=name)) for name in everything] == [
        everything[at:] for at in range(1, len(everything) + 1)
    ]


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        pytest.param(0, None, b"0123456789", id="everything"),
        pytest.param(3, 7, b"3456", id="the middle"),
        pytest.param(8, None, b"89", id="to the end"),
        pytest.param(8, 100, b"89", id="over the end"),
        pytest.param(10, 20, b"", id="behind the end"),
        pytest.param(4, 4, b"", id="nothing"),
    ],
)
def test_a_byte_range_is_read_as_a_slice(storage: Storage, start: int, stop: int | None, expected: bytes) -> None:
    storage.put("f", [b"01234", b"56789"])
    assert b"".join(storage.chunks("f", start, stop, storage.stat("f").etag)) == expected


def test_an_empty_file_is_there_and_has_no_bytes(storage: Storage) -> None:
    assert storage.put("empty", []) == 0
    assert storage.stat("empty").size == 0
    assert list(storage.chunks("empty")) == list(storage.chunks("empty", 0, 5)) == []
    with storage.open("empty") as file:
        assert file.read() == b""


def test_a_file_is_read_by_line(storage: Storage) -> None:
    lines = [b"%d %s\n" % (number, b"x" * (number % 977)) for number in range(5000)]
    storage.put("lines", lines)
    with storage.open("lines") as file:
        assert list(file) == lines


def test_putting_again_replaces_the_file_and_changes_its_tag(storage: Storage) -> None:
    storage.put("f", [b"old"])
    old = storage.stat("f").etag
    storage.put("f", [b"new and longer"])
    assert b"".join(storage.chunks("f")) == b"new and longer"
    assert storage.stat("f").etag != old


@pytest.mark.parametrize("size", [10, 40 << 20], ids=["small", "large"])
def test_a_put_whose_source_fails_leaves_nothing_and_keeps_the_old_file(storage: Storage, size: int) -> None:
    def source() -> Iterator[bytes]:
        for _ in range(10):
            yield bytes(size // 10)
        raise ValueError("the source is broken")

    storage.put("f", [b"old"])
    for name in ("f", "g"):
        with pytest.raises(ValueError, match="the source is broken"):
            storage.put(name, source())
    assert [(stored.name, stored.size) for stored in storage.list()] == [("f", 3)]
    storage.sweep()
    assert names(storage.list()) == ["f"]


def test_a_file_changed_since_it_was_listed_is_refused(storage: Storage) -> None:
    storage.put("f", [b"version 1"])
    tag = storage.stat("f").etag
    storage.put("f", [b"version 2!"])
    with pytest.raises(Changed, match="was changed while it was read"), storage.open("f", tag):
        pass
    with pytest.raises(Changed, match="f was changed"):
        list(storage.chunks("f", 2, 4, tag))


def test_a_missing_file_is_named(storage: Storage) -> None:
    put(storage, "there")
    with pytest.raises(NotThere, match=r"no-such"), storage.open("no-such"):
        pass
    with pytest.raises(NotThere, match=r"no-such"):
        storage.stat("no-such")
    with pytest.raises(NotThere, match=r"no-such"):
        list(storage.chunks("no-such", 5, 9))


def test_deleting_takes_one_file_and_is_repeatable(storage: Storage) -> None:
    put(storage, "a", "a b+c", "b")
    for _ in range(2):
        storage.delete("a b+c")
    assert names(storage.list()) == ["a", "b"]


def test_deleting_below_a_folder_takes_all_of_it_and_nothing_beside_it(storage: Storage) -> None:
    put(storage, "w/1", "w/d e/2+", "w/ö/3", "w2", "wx/4")
    assert storage.delete_below("w") == 3
    assert sorted(names(storage.list())) == ["w2", "wx/4"]
    assert storage.delete_below("w") == 0


def test_a_writable_place_passes_its_check_and_stays_empty(storage: Storage) -> None:
    assert storage.check() is None
    assert names(storage.list()) == []


def test_a_url_tells_a_person_where_a_file_lies(storage: Storage) -> None:
    assert storage.url("a b/c").endswith("/a b/c")


def test_a_tree_is_downloaded_whole_and_a_second_time_not_at_all(storage: Storage, tmp_path: Path) -> None:
    contents = {f"t/{name}": os.urandom(1000 + at) for at, name in enumerate(NAMES)} | {
        "t/big": os.urandom(3 << 20),
        "t/void": b"",
        "beside": b"x",
    }
    for name, content in contents.items():
        storage.put(name, [content])
    out = tmp_path / "out" / "tree"
    found = download(storage, "t", out, piece=1 << 20)
    assert digests(out) == {name[2:]: digest(content) for name, content in contents.items() if name[:2] == "t/"}
    assert {stored.name for stored in found} == set(digests(out))
    (out / "mark").touch()
    download(storage, "t", out)
    assert (out / "mark").exists()
    storage.put("t/z", [b"another version"])
    download(storage, "t", out)
    assert (out / "z").read_bytes() == b"another version"
    assert not (out / "mark").exists()
    assert sorted(path.name for path in out.parent.iterdir()) == [".tree.fetched", "tree"]


def test_several_downloads_of_one_folder_at_once_fetch_it_once(storage: Storage, tmp_path: Path) -> None:
    put(storage, *(f"m/{number}" for number in range(20)))
    stamps: list[float] = []

    def run() -> None:
        download(storage, "m", tmp_path / "m")
        stamps.append((tmp_path / "m").stat().st_ino)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stamps) == 4
    assert len(set(stamps)) == 1


def test_a_stage_that_others_make_and_rename_away_at_any_moment_is_held_all_the_same(tmp_path: Path) -> None:
    stage, over = tmp_path / ".m.partial", threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with suppress(FileExistsError):
                stage.mkdir()
            with suppress(FileNotFoundError):
                stage.rmdir()

    other = threading.Thread(target=come_and_go)
    other.start()
    held = 0
    try:
        for _ in range(5000):
            with staged(stage):
                held += 1
    finally:
        over.set()
        other.join()
    assert held == 5000


def test_a_download_keeps_the_whole_files_of_a_killed_one_and_drops_the_rest(
    storage: Storage, tmp_path: Path
) -> None:
    """The stage is put as a killed download leaves it: a and b whole, but b since replaced; c begun; x gone."""
    put(storage, "m/a", "m/b", "m/c")
    download(storage, "m", tmp_path / "first")
    stage = tmp_path / ".m.partial"
    (stage / "tree").mkdir(parents=True)
    for name in ("a", "b", "c", "x"):
        (stage / "tree" / name).write_bytes(f"CONTENT of m/{name}".encode())
    whole = (tmp_path / ".first.fetched").read_text().splitlines()
    (stage / "whole").write_text("\n".join(whole[:2]) + '\n["c", ')
    storage.put("m/b", [b"another b"])
    download(storage, "m", tmp_path / "m")
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == {
        "a": b"CONTENT of m/a",  # kept: it was not fetched again
        "b": b"another b",
        "c": b"content of m/c",
    }


def test_a_download_that_fails_leaves_the_old_folder_as_it_was(storage: Storage, tmp_path: Path) -> None:
    put(storage, "m/a", "m/b")
    download(storage, "m", tmp_path / "m")
    storage.delete_below("m")
    with pytest.raises(NotThere, match="there is no file there"):
        download(storage, "m", tmp_path / "m")
    assert sorted(digests(tmp_path / "m")) == ["a", "b"]


def test_a_tree_too_large_for_the_disk_is_refused_before_a_byte_is_fetched(storage: Storage, tmp_path: Path) -> None:
    put(storage, "m/a")
    with pytest.raises(StorageUnavailable, match=r"bytes are needed and \d+ are free"):
        download(_Boasting(storage), "m", tmp_path / "m")
    assert not (tmp_path / "m").exists()


class _Boasting:
    """A storage whose files say that they are an exabyte each."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Callable[..., object]:
        found: Callable[..., object] = getattr(self._storage, name)
        return found

    def list(self, below: str = "") -> Iterator[Stored]:
        return (stored._replace(size=1 << 60) for stored in self._storage.list(below))

    def chunks(self, *_: object) -> Iterator[bytes]:
        raise AssertionError("nothing may be fetched")


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "gs://bucket/key", "http://host/x"])
def test_a_url_of_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(StorageRefused, match="expected s3://BUCKET"):
        open_folder(url)


def test_an_s3_url_is_split_without_unescaping_it() -> None:
    assert split("s3://b/a%20b/+ö/") == ("b", "a%20b/+ö/")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def test_a_file_that_must_be_new_is_written_once_and_never_replaces_one(storage: Storage) -> None:
    assert storage.put_new("d/first", b"1")
    assert not storage.put_new("d/first", b"2")
    assert b"".join(storage.chunks("d/first")) == b"1"
    assert names(storage.list()) == ["d/first"]


def test_of_many_that_write_a_new_file_at_once_one_wins(storage: Storage) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda at: storage.put_new("first", b"%d" % at), range(8)))
    assert sum(won) == 1
    assert b"".join(storage.chunks("first")) == b"%d" % won.index(True)


def test_files_are_deleted_by_the_listing_that_yields_them(storage: Storage) -> None:
    put(storage, *(f"p/{at // 5}/{at} +%" for at in range(12)), "kept")
    assert storage.delete_all(stored.name for stored in storage.list("p") if "7" not in stored.name) == 11
    assert names(storage.list()) == ["kept", "p/1/7 +%"]
    assert storage.delete_all(["p/1/7 +%", "not there"]) == 2
    assert storage.delete_all([]) == 0


def test_a_folder_goes_only_when_it_is_empty(storage: Storage) -> None:
    put(storage, "a/1")
    storage.delete_folder("a")
    storage.delete_folder("not there")
    assert names(storage.list()) == ["a/1"]
