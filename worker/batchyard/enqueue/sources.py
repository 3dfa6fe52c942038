"""The three kinds of input as one thing: a stream of items that can be entered again behind any of them."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from batchyard.enqueue.blocks import Bytes, Raw, changed, check_same, origin_of, unpacked
from batchyard.enqueue.csvlines import read_header, read_rows
from batchyard.enqueue.jsonlines import read_values
from batchyard.enqueue.lines import ARRAY_ADVICE, Lines
from batchyard.enqueue.listing import Listing
from batchyard.enqueue.root import Listed
from batchyard.enqueue.settings import EnqueueSettings
from batchyard.enqueue.split import InputInvalid, Mark, Origin, Run
from batchyard.storage.door import Buckets, store_options

_BOM = b"\xef\xbb\xbf"
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


class Blocks(Protocol):
    """A file's decompressed bytes from an offset on."""

    def __call__(self, *, offset: int) -> Iterator[bytes]:
        """Yield them."""
        ...


class Source(Protocol):
    """A stream of items. ``files``: how many files it has come to so far."""

    files: int

    def runs(self, after: Mark | None = None) -> Iterator[Run]:
        """Yield every item and malformed line, or those behind ``after``.

        Raises InputInvalid for an input that cannot be read, and for a file that changed since ``after``;
        StorageUnavailable when a bucket does not answer.
        """
        ...


def source_of(settings: EnqueueSettings) -> Source:
    """Return the source that settings name; asks buckets whether the paths are there.

    Raises InputInvalid where it cannot be entered at all, StorageUnavailable when a bucket does not answer.
    """
    if settings.input.kind == "items":
        return _Items(_inline(settings))
    buckets = Buckets(store_options(settings.storage))
    listing = Listing(settings.input, settings.folder, buckets, allow_empty=settings.allow_empty)
    return _Paths(listing) if settings.input.kind == "files" else _Delimited(listing, Bytes(buckets))


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

    def __init__(self, listing: Listing, reading: Bytes) -> None:
        self.files = 0
        self._listing = listing
        self._reading = reading

    def runs(self, after: Mark | None = None) -> Iterator[Run]:
        files = self._listing.files(_place(after))
        if after is not None:
            listed = next(files, None)
            if listed is None or (listed.root, listed.path) != (after.origin.root, after.origin.path):
                raise InputInvalid(changed(after.origin.shown, "it is gone"))
            self.files += 1
            check_same(after.origin, origin_of(listed), "its size, time or ETag is not what it was")
            yield from _read_file(listed, self._reading.entered(listed), after.offset, after.next_line)
        for listed, raw in self._reading.files(files):
            self.files += 1
            yield from _read_file(listed, raw)


def _place(after: Mark | None) -> tuple[int, str] | None:
    return (after.origin.root, after.origin.below) if after is not None else None


def _read_file(listed: Listed, raw: Raw, offset: int = 0, line: int = 1) -> Iterator[Run]:
    """Yield the values of one file, from a place in it."""
    suffixes = [suffix.lower() for suffix in Path(listed.below).suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = ([""] + (suffixes[:-1] if packed else suffixes))[-1]
    if suffix in _OTHER_FORMATS:
        raise InputInvalid(
            f"{listed.shown}: found {_OTHER_FORMATS[suffix]}, expected JSON lines, .csv or .tsv (also as .gz)."
        )
    origin = origin_of(listed)
    blocks = partial(unpacked, listed.shown, packed, raw=raw)
    delimiter = _DELIMITERS.get(suffix)
    if delimiter is not None:
        yield from _read_table(origin, blocks, delimiter, offset, line)
    else:
        values = read_values(_lines(origin, blocks, offset, line), origin)
        yield from _without_lone_array(values, origin) if suffix == ".json" and not offset else values
    check_same(origin, origin_of(listed), "it was written to while it was read")


def _read_table(origin: Origin, blocks: Blocks, delimiter: str, offset: int, line: int) -> Iterator[Run]:
    lines = _lines(origin, blocks, 0, 1)
    header = read_header(lines, delimiter)
    if header is None:
        return
    if offset:
        lines = _lines(origin, blocks, offset, line)
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


def _lines(origin: Origin, blocks: Blocks, offset: int, line: int) -> Lines:
    source = blocks(offset=offset)
    if offset == 0:
        block = next(source, b"")
        skipped = len(_BOM) if block.startswith(_BOM) else 0
        return Lines(_chained(block[skipped:], source), skipped, line, shown=origin.shown)
    return Lines(source, offset, line, shown=origin.shown)


def _chained(block: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if block:
        yield block
        yield from blocks
