"""The three kinds of input as one thing: a stream of items that can be entered again behind any of them."""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from batchyard.enqueue.csvlines import read_header, read_rows
from batchyard.enqueue.jsonlines import read_values
from batchyard.enqueue.lines import ARRAY_ADVICE, Lines
from batchyard.enqueue.listing import Listed, Listing
from batchyard.enqueue.settings import EnqueueSettings
from batchyard.enqueue.split import InputInvalid, Mark, Origin, Run

BLOCK = 1 << 18
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHER_FORMATS = {
    ".parquet": "a Parquet file",
    ".avro": "an Avro file",
    ".zip": "a zip archive",
    ".tar": "a tar archive",
    ".tgz": "a tar archive",
    ".bz2": "a bzip2 file",
    ".xz": "an xz file",
    ".zst": "a zstd file",
    ".xlsx": "an Excel file",
    ".npy": "a NumPy file",
    ".tfrecord": "a TFRecord file",
}


class Source(Protocol):
    """A stream of items. ``files``: how many files it has come to so far."""

    files: int

    def runs(self, after: Mark | None = None) -> Iterator[Run]:
        """Yield every item and malformed line, or those behind ``after``.

        Raises InputInvalid for an input that cannot be read, and for a file that changed since ``after``.
        """
        ...


def source_of(settings: EnqueueSettings) -> Source:
    """Return the source that settings name. Raises InputInvalid where it cannot be entered at all."""
    if settings.input.kind == "items":
        return _Items(_inline(settings))
    listing = Listing(settings.input, settings.folder, allow_empty=settings.allow_empty)
    return _Paths(listing) if settings.input.kind == "files" else _Delimited(listing)


def _inline(settings: EnqueueSettings) -> list[Any]:
    path = settings.input.items_file
    if path is None:
        return settings.input.items
    try:
        items = json.loads((settings.folder / path).read_bytes())
    except OSError as error:
        raise InputInvalid(f"input.items: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputInvalid(f"input.items: {path} is not JSON: {error}.") from error
    if not isinstance(items, list):
        raise InputInvalid(f"input.items: {path} holds {type(items).__name__}, expected a JSON array.")
    return items


class _Items:
    """Inline items."""

    def __init__(self, items: list[Any]) -> None:
        self.files = 0
        self._items = items

    def runs(self, after: Mark | None = None) -> Iterator[Run]:
        start = after.offset if after is not None else 0
        for i in range(start, len(self._items)):
            # ASCII, so that even half a surrogate pair passes; NaN and big integers as Python writes them
            raw = json.dumps(self._items[i], separators=(",", ":")).encode()
            yield Run([raw], Origin(), 0, i + 1, 0)


class _Paths:
    """Each item is a file's absolute path."""

    def __init__(self, listing: Listing) -> None:
        self.files = 0
        self._listing = listing

    def runs(self, after: Mark | None = None) -> Iterator[Run]:
        for listed in self._listing.files(_place(after)):
            if after is not None and (listed.root, listed.path) == (after.origin.root, after.origin.path):
                continue
            self.files += 1
            origin = Origin(listed.shown, listed.path, listed.root, listed.below)
            yield Run([json.dumps(listed.path, ensure_ascii=False).encode()], origin, 0, 0, 0)


class _Delimited:
    """Each item is a JSON value, or a row, of a file."""

    def __init__(self, listing: Listing) -> None:
        self.files = 0
        self._listing = listing

    def runs(self, after: Mark | None = None) -> Iterator[Run]:
        for listed in self._listing.files(_place(after)):
            self.files += 1
            if after is not None and (listed.root, listed.path) != (after.origin.root, after.origin.path):
                raise InputInvalid(_changed(after.origin.shown, "it is gone"))
            yield from _read_file(listed, after)
            after = None
        if after is not None:
            raise InputInvalid(_changed(after.origin.shown, "it is gone"))


def _place(after: Mark | None) -> tuple[int, str] | None:
    return (after.origin.root, after.origin.below) if after is not None else None


def _read_file(listed: Listed, after: Mark | None) -> Iterator[Run]:
    """Yield the values of one file, behind ``after`` when that is given."""
    suffixes = [suffix.lower() for suffix in Path(listed.below).suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = ([""] + (suffixes[:-1] if packed else suffixes))[-1]
    if suffix in _OTHER_FORMATS:
        raise InputInvalid(
            f"{listed.shown}: found {_OTHER_FORMATS[suffix]}, expected JSON lines, .csv or .tsv (also as .gz)."
        )
    origin = _origin(listed)
    if after is not None and (after.origin.size, after.origin.mtime_ns) != (origin.size, origin.mtime_ns):
        raise InputInvalid(_changed(listed.shown, "its size or time is not what it was"))
    offset, line = (after.offset, after.next_line) if after is not None else (0, 1)
    delimiter = _DELIMITERS.get(suffix)
    if delimiter is not None:
        yield from _read_table(origin, packed, delimiter, offset, line)
    else:
        values = read_values(_lines(origin, packed, offset, line), origin)
        yield from _without_lone_array(values, origin) if suffix == ".json" and not offset else values
    now = _origin(listed)
    if (now.size, now.mtime_ns) != (origin.size, origin.mtime_ns):
        raise InputInvalid(_changed(listed.shown, "it was written to while it was read"))


def _read_table(origin: Origin, packed: bool, delimiter: str, offset: int, line: int) -> Iterator[Run]:
    lines = _lines(origin, packed, 0, 1)
    header = read_header(lines, delimiter)
    if header is None:
        return
    if offset:
        lines = _lines(origin, packed, offset, line)
    yield from read_rows(lines, header, delimiter, origin)


def _without_lone_array(runs: Iterator[Run], origin: Origin) -> Iterator[Run]:
    """Refuse a .json file that is one array of objects: meant as many items, it would be a single one."""
    first = next(runs, None)
    if first is None:
        return
    second = next(runs, None)
    alone = second is None and len(first.raws) == 1 and first.problem is None
    if alone and first.raws[0].lstrip().startswith(b"["):
        elements = json.loads(first.raws[0])
        if elements and all(isinstance(element, dict) for element in elements):
            raise InputInvalid(
                f"{origin.shown}: found one JSON array of {len(elements):,} objects, which would be a single item, "
                f"expected one item a line; {ARRAY_ADVICE} A file named .jsonl may hold a single array."
            )
    yield first
    if second is not None:
        yield second
        yield from runs


def _lines(origin: Origin, packed: bool, offset: int, line: int) -> Lines:
    blocks = _blocks(origin, packed, offset)
    if offset == 0:
        block = next(blocks, b"")
        skipped = len(_BOM) if block.startswith(_BOM) else 0
        return Lines(_chained(block[skipped:], blocks), skipped, line, shown=origin.shown)
    return Lines(blocks, offset, line, shown=origin.shown)


def _chained(block: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if block:
        yield block
        yield from blocks


def _blocks(origin: Origin, packed: bool, offset: int) -> Iterator[bytes]:
    """Yield a file's bytes from ``offset`` (of the decompressed bytes), known by its first bytes as gzip or not."""
    try:
        with open(origin.path, "rb", buffering=0) as file:  # noqa: PTH123 - a string path, ten thousands of times
            magic = file.read(2)
            if magic != _GZIP:
                if packed and magic:
                    raise InputInvalid(f"{origin.shown}: found no gzip data, expected it by the name's .gz.")
                file.seek(offset)
                while block := file.read(BLOCK):
                    yield block
                return
            file.seek(0)
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                unpacked.seek(offset)
                while block := unpacked.read(BLOCK):
                    yield block
    except EOFError:
        raise InputInvalid(
            f"{origin.shown}: found gzip data that ends too early (a half upload?), expected the whole file."
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputInvalid(f"{origin.shown}: found damaged gzip data ({error}), expected the whole file.") from error
    except OSError as error:
        raise InputInvalid(f"{origin.shown}: the file cannot be read: {error.strerror}.") from error


def _origin(listed: Listed) -> Origin:
    try:
        info = os.stat(listed.path)  # noqa: PTH116
    except OSError as error:
        raise InputInvalid(f"{listed.shown}: the file cannot be read: {error.strerror}.") from error
    return Origin(listed.shown, listed.path, listed.root, listed.below, info.st_size, info.st_mtime_ns)


def _changed(shown: str, how: str) -> str:
    return (
        f"{shown}: found the file changed while the job was reading its input ({how}), expected it to stay as it was."
    )
