"""A handler's project from a bucket: a zip file, a tar.gz file, or a prefix.

An archive is somebody's file: nothing it says of names, types or sizes is believed. It is unpacked beside the
project's place, and renamed when it is whole: killed at any moment, there is the old project, none, or the new one.
"""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from batchyard.projects.files import ProjectInvalid
from batchyard.storage.door import open_folder
from batchyard.storage.download import download
from batchyard.storage.local import told
from batchyard.storage.port import Storage, StorageRefused, StoreOptions

MAX_BYTES = 1 << 30
MAX_FILES = 20_000
_FIELD = "spec.handler.project.s3"
_COPY = 1 << 20
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a compression that Python does not know
    OSError,  # bz2's and gzip's have no errno
)
_TAR = (".tar.gz", ".tgz", ".tar")


def ready_project(url: str, target: Path, options: StoreOptions, *, most: int = MAX_BYTES) -> None:
    """Make ``target`` hold the files of ``url`` and nothing else; doing it again is harmless.

    ``url`` ends with .zip, .tar.gz, .tgz or .tar, or is a prefix; unpacked it has at most ``most`` bytes. Raises
    ProjectInvalid for one that cannot be read, is no such archive, or holds anything but files and folders inside it,
    or too much; and StorageUnavailable when the store is away or the disk is full.
    """
    try:
        # a download of the same prefix would trust it, whatever was written to the folder since
        target.with_name(f".{target.name}.fetched").unlink(missing_ok=True)
        lowered = url.lower()
        if lowered.endswith((".zip", *_TAR)):
            folder, _, name = url.rpartition("/")
            unpack = _unzip if lowered.endswith(".zip") else _untar
            _unpacked(open_folder(folder, options), name, target, unpack, most)
        else:
            storage = open_folder(url, options)
            _check_listing(storage, url, most)
            download(storage, "", target)
    except StorageRefused as error:
        raise ProjectInvalid(f"{_FIELD}: {error}") from error


def _check_listing(storage: Storage, url: str, most: int) -> None:
    size = 0
    for count, stored in enumerate(storage.list(), 1):
        size += stored.size
        _check_size(url, count, size, most)


def _unpacked(storage: Storage, name: str, target: Path, unpack: "Callable[[Path, _Tree], None]", most: int) -> None:
    """Fetch an archive, unpack it beside ``target`` and put it in its place."""
    stage = target.with_name(f".{target.name}.new")
    with told(stage):
        if stage.exists():  # what an earlier try left
            shutil.rmtree(stage)
        stage.mkdir(parents=True)
        archive = stage / "archive"
        size = 0
        with archive.open("xb") as file:
            for chunk in storage.chunks(name):
                size += len(chunk)
                _check_size(storage.url(name), 0, size, most)
                file.write(chunk)
        tree = _Tree(stage / "tree", storage.url(name), most)
        unpack(archive, tree)
        if not tree.count:
            raise ProjectInvalid(f"{_FIELD}: {tree.url} holds no files, expected the handler's files.")
        if target.exists():
            target.rename(stage / "old")
        tree.root.rename(target)
        shutil.rmtree(stage)


class _Tree:
    """The folder that an archive is unpacked to; refuses what would leave it or fill the disk."""

    def __init__(self, root: Path, url: str, most: int) -> None:
        self.root = root
        self.url = url
        self.count = 0
        self._size = 0
        self._most = most
        root.mkdir()

    def refuse(self, name: str, what: str) -> ProjectInvalid:
        """Return the error for an entry that a project cannot have."""
        return ProjectInvalid(f"{_FIELD}: {self.url}: found {what} ({name!r}), expected files and folders inside it.")

    def add(self, name: str, content: IO[bytes] | None, mode: int) -> None:
        """Write one entry; without ``content`` it is a folder. Of ``mode`` only whether it is a program is kept."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
            raise self.refuse(name, "a path that leads out of the project")
        path = self.root.joinpath(*parts)
        self.count += content is not None
        _check_size(self.url, self.count, self._size, self._most)
        try:
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("wb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise self.refuse(name, "a name that is a file and a folder") from None
        with file:
            while chunk := content.read(_COPY):
                self._size += len(chunk)
                _check_size(self.url, self.count, self._size, self._most)
                file.write(chunk)
        path.chmod(0o755 if mode & 0o100 else 0o644)


def _unzip(archive: Path, tree: _Tree) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                mode = entry.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise tree.refuse(entry.filename, "a link or a device")
                if entry.flag_bits & 1:
                    raise tree.refuse(entry.filename, "an encrypted file")
                if entry.is_dir():
                    tree.add(entry.filename, None, mode)
                    continue
                with opened.open(entry) as content:
                    tree.add(entry.filename, content, mode)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ProjectInvalid(f"{_FIELD}: {tree.url} is no zip file that can be read: {error}.") from error


def _untar(archive: Path, tree: _Tree) -> None:
    try:
        with tarfile.open(archive, "r:*") as opened:
            for entry in _entries(opened):
                if not (entry.isfile() or entry.isdir()):
                    raise tree.refuse(entry.name, "a link or a device")
                tree.add(entry.name, opened.extractfile(entry), entry.mode)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ProjectInvalid(f"{_FIELD}: {tree.url} is no tar file that can be read: {error}.") from error


def _entries(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries as they are read: a list of all would be as long as the archive wants it to be."""
    while (entry := opened.next()) is not None:
        yield entry


def _check_size(url: str, count: int, size: int, most: int) -> None:
    if count > MAX_FILES or size > most:
        what = f"more than {MAX_FILES:,} files" if count > MAX_FILES else f"more than {most >> 20:,} MiB"
        raise ProjectInvalid(f"{_FIELD}: {url} holds {what}, expected a handler's files; models go to models.path.")
