"""A handler's project from a real S3 server: archives and prefixes, and what is refused of them."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batchyard.projects.fetch import ready_project
from batchyard.projects.files import ProjectInvalid
from batchyard.storage.door import open_folder
from batchyard.storage.port import StoreOptions
from s3_server import BUCKET, S3Server

FILES = {"handler.py": b"class Handler: ...\n", "lib/deep/util.py": b"x = 1\n", "set up.sh": b"#!/bin/sh\n"}


def zipped(files: dict[str, bytes], **entries: Any) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = entries.get("mode", stat.S_IFREG | (0o755 if name.endswith(".sh") else 0o644)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return held.getvalue()


def tarred(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE, mode: str = "w:gz") -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(content), "/etc/passwd"
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


def tree_at(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def put(s3: S3Server, new_prefix: Callable[[], str]) -> Callable[..., str]:
    """A function that puts objects below a prefix of their own and returns its URL."""

    def put(files: dict[str, bytes]) -> str:
        url = new_prefix()
        storage = open_folder(url, StoreOptions(endpoint=s3.endpoint))
        for name, content in files.items():
            storage.put(name, [content])
        return url

    return put


@pytest.fixture
def options(s3: S3Server) -> StoreOptions:
    return StoreOptions(endpoint=s3.endpoint, attempts=2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a project+1.zip", zipped(FILES), id="zip"),
        pytest.param("project.ZIP", zipped({"./lib/": b"", **FILES}), id="zip with folders"),
        pytest.param("p.tar.gz", tarred(FILES), id="tar.gz"),
        pytest.param("p.tgz", tarred({f"./{name}": content for name, content in FILES.items()}), id="tgz"),
        pytest.param("p.tar", tarred(FILES, mode="w"), id="tar"),
    ],
)
def test_an_archive_is_unpacked_in_place_of_what_was_there(put, options, tmp_path, name, content):
    target = tmp_path / "project"
    (target / "old").mkdir(parents=True)
    (target / "handler.py").mkdir()
    url = f"{put({name: content})}/{name}"
    for _ in range(2):
        ready_project(url, target, options)
        assert tree_at(target) == FILES
    assert os.access(target / "set up.sh", os.X_OK)
    assert not os.access(target / "handler.py", os.X_OK)
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_a_prefix_is_a_project_and_is_whole_again_each_time(put, options, tmp_path):
    url, target = put({"p/" + name: content for name, content in FILES.items()}), tmp_path / "project"
    for slash in ("", "/"):
        ready_project(f"{url}/p{slash}", target, options)
        assert tree_at(target) == FILES
        (target / "handler.py").write_bytes(b"changed by a handler")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("p.zip", zipped({"../x.py": b""}), "a path that leads out of the project ('../x.py')", id="up"),
        pytest.param("p.zip", zipped({"a/../../x": b""}), "a path that leads out", id="up from within"),
        pytest.param("p.zip", zipped({"/etc/x": b""}), "a path that leads out", id="absolute"),
        pytest.param("p.zip", zipped({"..\\x": b""}), "a path that leads out", id="up on Windows"),
        pytest.param("p.tar.gz", tarred({"../x": b""}), "a path that leads out", id="up in a tar"),
        pytest.param("p.zip", zipped({"x": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777), "a link or a device ('x')",
                     id="a symlink"),
        pytest.param("p.tgz", tarred({"x": b""}, tarfile.SYMTYPE), "a link or a device ('x')", id="a tar's symlink"),
        pytest.param("p.tgz", tarred({"x": b""}, tarfile.LNKTYPE), "a link or a device", id="a tar's hard link"),
        pytest.param("p.tgz", tarred({"x": b""}, tarfile.CHRTYPE), "a link or a device", id="a device"),
        pytest.param("p.tgz", tarred({"x": b""}, tarfile.FIFOTYPE), "a link or a device", id="a pipe"),
        pytest.param("p.zip", zipped({"a": b"", "a/b": b""}), "is a file and a folder ('a/b')", id="clash"),
        pytest.param("p.zip", zipped({"a/b": b"", "a": b""}), "is a file and a folder ('a')", id="clash 2"),
        pytest.param("p.zip", b"no zip", "is no zip file that can be read", id="no zip"),
        pytest.param("p.zip", zipped(FILES)[:-30], "is no zip file that can be read", id="a cut zip"),
        pytest.param("p.tar.gz", b"no tar", "is no tar file that can be read", id="no tar"),
        pytest.param("p.tar.gz", tarred({"a": os.urandom(9999)})[:-500], "is no tar file that can be read",
                     id="a cut tar"),
        pytest.param("p.zip", zipped({}), "holds no files", id="nothing in it"),
        pytest.param("q.zip", b"", "q.zip: there is no such file", id="a key that is not there"),
    ],
)  # fmt: skip
def test_an_archive_that_no_project_can_be_is_refused_and_leaves_the_old_one(
    put, options, tmp_path, name, content, words
):
    target = tmp_path / "project"
    target.mkdir()
    (target / "handler.py").write_bytes(b"old")
    url = f"{put({name: content} if content else {'other': b'x'})}/{name}"
    with pytest.raises(ProjectInvalid) as refused:
        ready_project(url, target, options)
    assert words in str(refused.value)
    assert str(refused.value).startswith("spec.handler.project.s3: s3://")
    assert tree_at(target) == {"handler.py": b"old"}


def test_what_is_larger_unpacked_than_a_project_may_be_is_refused(put, options, tmp_path):
    bomb = zipped({"zeros": bytes((8 << 20) + 1)})
    assert len(bomb) < 1 << 20
    with pytest.raises(ProjectInvalid, match=r"holds more than 8 MiB.*models go to models.path"):
        ready_project(put({"p.zip": bomb}) + "/p.zip", tmp_path / "project", options, most=8 << 20)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize("below", ["nothing", "nothing/"])
def test_a_prefix_without_files_is_refused(put, options, tmp_path, below):
    with pytest.raises(ProjectInvalid, match=rf"s3://{BUCKET}/\w+/nothing/?: there is no file there"):
        ready_project(f"{put({'x': b''})}/{below}", tmp_path / "project", options)
