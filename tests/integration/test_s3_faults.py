"""Large listings and trees from a real S3 server that is throttled, cut off or killed in the middle."""

import hashlib
import os
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from batchyard.storage.door import open_folder
from batchyard.storage.download import download
from batchyard.storage.port import Changed, Storage, StorageRefused, StorageUnavailable, StoreOptions
from s3_server import BUCKET, OWNER, REGION, S3Server, SpoilingProxy, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
MANY = 100_000


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3") / "server")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])


def opened(endpoint: str, prefix: str, **more: int | float) -> Storage:
    return open_folder(f"s3://{BUCKET}/{prefix}", StoreOptions(endpoint=endpoint, region=REGION, **more))  # type: ignore[arg-type]


def make_tree(storage: Storage) -> dict[str, str]:
    """Put eight files of 0 to 24 MiB; return their digests."""
    contents = {f"{at}/file {at}+": os.urandom(at * 3 << 20) for at in range(8)} | {"8/last": b"end"}
    for name, content in contents.items():
        storage.put(name, [content])
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def tree_at(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.timeout(600)
def test_a_hundred_thousand_keys_are_listed_in_flat_memory_and_from_any_key_on(s3: S3Server) -> None:
    s3.fill("many", MANY)
    storage = opened(s3.endpoint, "many")
    tracemalloc.start()
    try:
        peaks, count, middle = [], 0, ""
        for stored in storage.list():
            count += 1
            if count == MANY // 2:
                middle = stored.name
            if count % 10_000 == 0:
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert count == MANY
    assert max(peaks[5:]) < 1.5 * max(peaks[:3])
    assert sum(1 for _ in storage.list(after=middle)) == MANY - MANY // 2


def test_zero_byte_folder_markers_are_not_files_and_go_with_their_folder(s3: S3Server, tmp_path: Path) -> None:
    client = s3.client()
    for key in ("marked/", "marked/sub/"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"")
    client.put_object(Bucket=BUCKET, Key="marked/sub/file", Body=b"x")
    storage = opened(s3.endpoint, "")
    assert [stored.name for stored in storage.list("marked")] == ["marked/sub/file"]
    download(storage, "marked", tmp_path / "m")
    assert list(tree_at(tmp_path / "m")) == ["sub/file"]
    storage.delete_below("marked")
    assert client.list_objects_v2(Bucket=BUCKET, Prefix="marked")["KeyCount"] == 0


def test_every_third_request_throttled_changes_nothing_but_the_time(s3: S3Server, tmp_path: Path) -> None:
    def spoil(number: int, method: str, path: str) -> str | None:
        return "503 SlowDown" if number % 3 == 0 else None

    with closing(SpoilingProxy(s3.port, spoil)) as proxy:
        storage = opened(proxy.endpoint, "throttled")
        digests = make_tree(storage)
        download(storage, "", tmp_path / "tree", piece=8 << 20)
        assert storage.delete_below("") == len(digests)
        assert len(proxy.requests) > 30
    assert tree_at(tmp_path / "tree") == digests


def test_a_body_that_is_cut_off_again_and_again_is_read_to_its_end(s3: S3Server, tmp_path: Path) -> None:
    """Each answer brings 1,000,000 bytes at most: 24 MiB take 26 of them."""

    def spoil(number: int, method: str, path: str) -> int | None:
        return 1_000_000 if method == "GET" and "list-type" not in path else None

    direct = opened(s3.endpoint, "cut")
    content = os.urandom(24 << 20)
    direct.put("t/f", [content])
    with closing(SpoilingProxy(s3.port, spoil)) as proxy:
        storage = opened(proxy.endpoint, "cut")
        with storage.open("t/f") as file:
            assert file.read() == content
        assert b"".join(storage.chunks("t/f", 5, 2_500_000)) == content[5:2_500_000]
        download(storage, "t", tmp_path / "t", piece=5 << 20)
    assert (tmp_path / "t" / "f").read_bytes() == content


def test_a_server_that_sends_less_of_a_range_than_asked_is_asked_for_the_rest(s3: S3Server) -> None:
    content = os.urandom(2_500_000)
    direct = opened(s3.endpoint, "less")
    direct.put("f", [content])
    with closing(SpoilingProxy(s3.port, lambda number, method, path: (1_000_000,))) as proxy:
        storage = opened(proxy.endpoint, "less")
        assert b"".join(storage.chunks("f", 100)) == content[100:]
        assert b"".join(storage.chunks("f", 100, 2_200_000)) == content[100:2_200_000]
        assert b"".join(storage.chunks("f", 2_400_000, 9_000_000)) == content[2_400_000:]


def test_a_body_that_never_moves_on_is_given_up(s3: S3Server, tmp_path: Path) -> None:
    opened(s3.endpoint, "stuck").put("f", [bytes(100)])
    with closing(SpoilingProxy(s3.port, lambda number, method, path: 0 if method == "GET" else None)) as proxy:
        storage = opened(proxy.endpoint, "stuck", attempts=2)
        with pytest.raises(StorageUnavailable, match="stuck/f: the connection broke"), storage.open("f"):
            pass


def test_a_file_replaced_while_it_is_read_is_told_and_never_mixed(s3: S3Server) -> None:
    storage = opened(s3.endpoint, "mixed")
    storage.put("f", [bytes(4_000_000)])

    def spoil(number: int, method: str, path: str) -> int | None:
        return 1_500_000 if method == "GET" else None

    with closing(SpoilingProxy(s3.port, spoil)) as proxy:
        source = opened(proxy.endpoint, "mixed").chunks("f")
        seen = [next(source)]
        storage.put("f", [b"1" * 4_000_000])
        with pytest.raises(Changed, match=f"s3://{BUCKET}/mixed/f was changed while it was read"):
            seen.extend(source)
    assert not any(b"".join(seen))


def test_a_file_replaced_while_its_tree_is_downloaded_leaves_no_tree(s3: S3Server, tmp_path: Path) -> None:
    direct = opened(s3.endpoint, "replaced")
    for name in ("a", "b", "c"):
        direct.put(name, [bytes(2 << 20)])

    def spoil(number: int, method: str, path: str) -> None:
        if method == "GET" and path.endswith("/c"):
            direct.put("c", [b"1" * (2 << 20)])

    with closing(SpoilingProxy(s3.port, spoil)) as proxy, pytest.raises(Changed, match="replaced/c was changed"):
        download(opened(proxy.endpoint, "replaced"), "", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    download(direct, "", tmp_path / "tree")
    assert (tmp_path / "tree" / "c").read_bytes() == b"1" * (2 << 20)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".tree.fetched", "tree"]


@pytest.mark.timeout(240)
def test_a_download_outlives_the_servers_sigkill_and_restart(s3: S3Server, tmp_path: Path) -> None:
    digests = make_tree(opened(s3.endpoint, "killed"))
    downs = 0
    lock = threading.Lock()

    def spoil(number: int, method: str, path: str) -> None:
        nonlocal downs
        with lock:
            if number == 12:
                downs += 1
                s3.kill()
                threading.Thread(target=s3.start).start()

    with closing(SpoilingProxy(s3.port, spoil)) as proxy:
        storage = opened(proxy.endpoint, "killed", attempts=12)
        download(storage, "", tmp_path / "tree", piece=4 << 20)
    assert downs == 1
    assert tree_at(tmp_path / "tree") == digests


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        pytest.param(["a", "a/b"], "is a file, and 'a/b' lies below it", id="a file and a folder of one name"),
        pytest.param(["../up", "b"], "cannot be a path below a folder", id="a path that leads out"),
        pytest.param(["x//y"], "cannot be a path below a folder", id="an empty part"),
    ],
)
def test_keys_that_no_folder_can_hold_are_refused_by_name(
    s3: S3Server, tmp_path: Path, keys: list[str], told: str
) -> None:
    """The server, which keeps folders itself, has no such keys: the proxy puts them into its listing."""
    listing = "".join(f"<Contents><Key>bad/{key}</Key><Size>1</Size><ETag>t</ETag></Contents>" for key in keys)
    body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{listing}</ListBucketResult>"
    with closing(SpoilingProxy(s3.port, lambda number, method, path: f"200 \n{body}")) as proxy:
        storage = opened(proxy.endpoint, "bad")
        with pytest.raises(StorageRefused, match=told):
            download(storage, "", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_large_put_is_seen_whole_or_not_at_all_and_leaves_no_parts(s3: S3Server) -> None:
    storage, client = opened(s3.endpoint, "large"), s3.client()
    seen: list[int] = []

    def source() -> Iterator[bytes]:
        for _ in range(9):
            yield os.urandom(5 << 20)
            seen.append(client.list_objects_v2(Bucket=BUCKET, Prefix="large/")["KeyCount"])

    assert storage.put("f", source()) == storage.stat("f").size == 45 << 20
    assert seen == [0] * 9
    assert storage.stat("f").etag.endswith('-3"')
    assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_a_large_put_that_fails_aborts_its_parts(s3: S3Server) -> None:
    def spoil(number: int, method: str, path: str) -> str | None:
        return "403 AccessDenied" if "partNumber=3" in path else None

    with (
        closing(SpoilingProxy(s3.port, spoil)) as proxy,
        pytest.raises(StorageRefused, match=r"aborted/f: access is denied.*s3:PutObject"),
    ):
        opened(proxy.endpoint, "aborted").put("f", [bytes(60 << 20)])
    assert not s3.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    assert not list(opened(s3.endpoint, "aborted").list())


def test_sweeping_removes_the_parts_of_killed_puts_below_the_prefix_alone(s3: S3Server) -> None:
    client = s3.client()
    for key in ("swept/a b+", "swept/b", "kept/c"):
        upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    opened(s3.endpoint, "swept").sweep()
    left = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert [upload["Key"] for upload in left] == ["kept/c"]


def test_many_threads_share_one_folder(s3: S3Server) -> None:
    storage = opened(s3.endpoint, "threads")
    with ThreadPoolExecutor(16) as pool:
        sizes = list(pool.map(lambda number: storage.put(f"{number}", [b"x" * number]), range(64)))
    assert sizes == list(range(64))
    assert {stored.name: stored.size for stored in storage.list()} == {f"{number}": number for number in range(64)}
    assert storage.delete_below("") == 64
