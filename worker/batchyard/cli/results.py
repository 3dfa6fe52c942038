"""``batchyard results``: finds a job's output and streams its results, in the order of the input."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from pydantic import ValidationError

from batchyard.api.errors import BatchyardError, InvalidError, nearest
from batchyard.api.manifest import load
from batchyard.api.storage import storage_settings
from batchyard.local.plan import output_of
from batchyard.local.state import STATE_FOLDER, RunRecord
from batchyard.output import table
from batchyard.output.owner import OWNER
from batchyard.output.parts import MANIFEST, OutputInvalid, Parts
from batchyard.output.read import decode, read_lines
from batchyard.storage.door import SCHEME, store_options
from batchyard.storage.port import StoreOptions

INVALID = 2
FAILED = 1
_TOGETHER = 1 << 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for. ``columns`` empty: all of them."""

    source: str
    file: str | None = None
    form: str = "jsonl"
    columns: tuple[str, ...] = ()
    endpoint: str | None = None
    region: str | None = None
    state_dir: Path | None = None


def results_command(wanted: Wanted) -> int:
    """Write the results to a file or standard output; return the exit code."""
    try:
        path, options = _found(wanted)
        parts = Parts(path, options)
        _check(parts)
        chunks = _csv(parts, wanted.columns) if wanted.form == "csv" else read_lines(parts)
        if wanted.file in (None, "-"):
            for chunk in _together(chunks):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        else:
            _write(Path(str(wanted.file)), chunks)
    except BatchyardError as error:
        click.echo(f"batchyard: {error}", err=True)
        return INVALID if isinstance(error, InvalidError) else FAILED
    return 0


def _csv(parts: Parts, names: tuple[str, ...]) -> Iterator[bytes]:
    """Yield lines of CSV. Without names the results are read twice: only the last one tells the last column."""
    found = list(names) or table.columns(map(table.row, map(decode, read_lines(parts))))
    yield from table.lines(map(table.row, map(decode, read_lines(parts))), found or [table.RESULT])


# --- where they are ---
def _found(wanted: Wanted) -> tuple[str, StoreOptions]:
    """Return the output that a URL, a folder, a manifest or a job's name means, and how its store is reached."""
    source = wanted.source
    given = StoreOptions(endpoint=wanted.endpoint, region=wanted.region)
    if source.startswith(SCHEME):
        return source, given
    path = Path(source).expanduser()
    jobs = (wanted.state_dir or Path(STATE_FOLDER)).absolute()
    if path.name == source and (record := _record(jobs / source)) is not None:
        output = record.fixed.get("spec.output.path")
        if not output:
            raise OutputInvalid(f"job {source} has no spec.output: its results were not kept.")
        return str(output), _options(Path(record.manifest), given)
    if path.is_dir():
        return str(path), given
    if path.is_file():
        manifest = load(path, ())
        output = output_of(manifest.job.spec.output, manifest.folder)
        if output is None:
            raise OutputInvalid(f"{path}: the job has no spec.output: its results are not kept.")
        return output, _options(path, given)
    near = nearest(source, _names(jobs))
    hint = f" Did you mean {near!r}?" if near else ""
    raise OutputInvalid(
        f"found no job, folder or manifest {source!r}, expected the name of a job that ran here (in {jobs}), "
        f"a folder or s3:// URL of results, or a manifest.{hint}"
    )


def _options(manifest: Path, given: StoreOptions) -> StoreOptions:
    """Return how the store of a manifest's job is reached; what the command line says wins."""
    told = StoreOptions()
    with contextlib.suppress(InvalidError):  # it may be gone or changed since the job ran
        told = store_options(storage_settings(load(manifest, ()).job.spec.storage))
    return StoreOptions(
        endpoint=given.endpoint or told.endpoint,
        region=given.region or told.region,
        path_style=told.path_style,
        requester_pays=told.requester_pays,
    )


def _record(folder: Path) -> RunRecord | None:
    try:
        return RunRecord.model_validate_json((folder / "run.json").read_bytes())
    except (OSError, ValidationError):
        return None


def _names(jobs: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [path.name for path in jobs.iterdir() if _record(path)]
    return []


def _check(parts: Parts) -> None:
    """Refuse a place that no job wrote to; say it when more results may come."""
    if parts.has(MANIFEST):
        return
    if not parts.has(OWNER) and next(parts.written(), None) is None:
        raise OutputInvalid(f"{parts.path} holds no results: found no {MANIFEST} and no parts there.")
    click.echo(f"note: {parts.path} has no {MANIFEST}: the job has not ended, more results may come", err=True)


# --- where they go ---
def _write(file: Path, chunks: Iterable[bytes]) -> None:
    """Write one file, seen whole or not at all."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    except OSError as error:
        raise OutputInvalid(f"{file} cannot be written ({error.strerror}).") from error
    try:
        with os.fdopen(descriptor, "wb") as out:
            for chunk in _together(chunks):
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(file)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputInvalid(f"{file} cannot be written ({error.strerror}).") from error
        raise


def _together(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in larger pieces."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        if len(held) >= _TOGETHER:
            yield bytes(held)
            held.clear()
    yield bytes(held)
