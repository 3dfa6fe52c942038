"""From a file a user wrote to a BatchJob, or to every problem in it at once.

The door of the checks: reading is in ``yamltext``, ``--set`` in ``overrides``, the sentences in ``problems``.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.api import overrides, yamltext
from batchyard.api.errors import InvalidError, Problem, nearest
from batchyard.api.overrides import Override
from batchyard.api.problems import check
from batchyard.api.spec import KIND, MUTABLE, BatchJob
from batchyard.api.strict import Flaw, format_path
from batchyard.api.strict import Path as FieldPath
from batchyard.api.words import found
from batchyard.api.yamltext import Document

MAX_BYTES = 8 << 20  # inline items end at 1 MiB; the rest is room for comments, indentation and inline files


class InvalidManifest(InvalidError):
    """A manifest is wrong: ``problems`` by line; ``str`` is one line each, with the file in front."""

    reason = "ManifestInvalid"

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda p: (p.line is None, p.line or 0))
        super().__init__("\n".join(f"{file}: {problem.sentence()}" for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest. ``folder`` is what its relative paths start at; ``file`` its name for messages.

    ``ignored`` names the file's other documents (``ConfigMap files, line 1``), which one machine has no use for.
    """

    job: BatchJob
    folder: Path
    file: str
    text: str
    ignored: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Return a sha256 of the name and of the fields of ``spec`` that may not change once the job exists.

        Comments, order and defaults written out change nothing; overrides count.
        """
        spec = self.job.model_dump(by_alias=True, exclude={"status"})["spec"]
        kept = {name: value for name, value in spec.items() if name not in MUTABLE}
        text = json.dumps([self.job.metadata.name, kept], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load(path_or_text: str | Path, sets: Sequence[str] = ()) -> Manifest:
    """Read a manifest from a file, or from a text (a str with a line break) whose folder is the current one.

    ``sets`` are ``path=value`` overrides. Raises InvalidManifest with every problem.
    """
    if isinstance(path_or_text, str) and "\n" in path_or_text:
        return parse(path_or_text, Path.cwd(), "manifest", sets)
    path = Path(path_or_text)
    return parse(_read(path), path.resolve().parent, str(path_or_text), sets)


def parse(text: str, folder: Path, file: str = "manifest", sets: Sequence[str] = ()) -> Manifest:
    """Check a manifest's text. ``file`` names it in messages. Raises InvalidManifest with every problem."""
    try:
        documents = yamltext.read(text)
    except yamltext.SyntaxProblem as error:
        raise InvalidManifest(file, [error.problem]) from error
    document = _the_job(file, documents)
    wanted, problems = overrides.parse(sets)
    done: list[Override] = []
    for override in wanted:
        if problem := overrides.apply(document.value, override):
            problems.append(problem)
        else:
            done.append(override)
    problems += document.problems
    job, flaws = check(BatchJob, document.value)
    problems += [_problem(flaw, document, done) for flaw in _telling(flaws)]
    if job is None or problems:
        raise InvalidManifest(file, list(dict.fromkeys(problems)))
    ignored = tuple(_title(other) for other in documents if other is not document)
    return Manifest(job, folder, file, text, ignored)


def _read(path: Path) -> str:
    def wrong(found: str, expected: str, near: str | None = None) -> InvalidManifest:
        return InvalidManifest(str(path), [Problem("the file", found, expected, nearest=near)])

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except IsADirectoryError as error:
        raise wrong("a folder", "a BatchJob manifest", _likely(path)) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise wrong("nothing at this path", "a BatchJob manifest", _likely(path.parent, path.name)) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        said = getattr(error, "strerror", None) or str(error)
        raise wrong(f"a file that can't be read ({said})", "a BatchJob manifest") from error
    if len(raw) > MAX_BYTES:
        instead = "put items into a file, and name it in spec.input.delimitedFiles.paths"
        raise wrong(f"more than {MAX_BYTES:,} bytes", f"a manifest of at most that ({instead})")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = Problem("the file", f"bytes that are not UTF-8 (0x{raw[error.start]:02x})", "UTF-8 text", line)
        raise InvalidManifest(str(path), [problem]) from error


def _likely(folder: Path, name: str = "batchjob.yaml") -> str | None:
    """Return the manifest in ``folder`` that was probably meant."""
    try:
        by_stem = {p.stem: p for p in folder.iterdir() if p.suffix in (".yaml", ".yml", ".json")}
    except OSError:
        return None
    best = nearest(Path(name).stem, by_stem)
    return str(by_stem[best]) if best else None


def _the_job(file: str, documents: Sequence[Document]) -> Document:
    """Return the one BatchJob of a file. Raises InvalidManifest when there is none, or another number of them."""
    if not documents:
        raise InvalidManifest(file, [Problem("the file", "nothing but space and comments", "a BatchJob manifest")])
    jobs = [d for d in documents if isinstance(d.value, dict) and d.value.get("kind") == KIND]
    if len(documents) == 1:
        jobs = list(documents)
    elif len(jobs) != 1:
        titles = "; ".join(map(_title, documents))
        number = f"{len(jobs) or 'no'} {KIND}s among {len(documents)} documents ({titles})"
        line = (jobs or documents)[-1].line
        raise InvalidManifest(file, [Problem("the file", number, f"exactly one {KIND}", line)])
    job = jobs[0]
    if not isinstance(job.value, dict):
        problem = Problem("the manifest", found(job.value), f"an object with apiVersion, kind: {KIND}, …", job.line)
        raise InvalidManifest(file, [*job.problems, problem])
    return job


def _title(document: Document) -> str:
    value = document.value
    kind = value.get("kind", "an object without kind") if isinstance(value, dict) else found(value)
    metadata = value.get("metadata") if isinstance(value, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{kind}{f' {name}' if name else ''}, line {document.line}"


def _telling(flaws: Sequence[Flaw]) -> Sequence[Flaw]:
    """Return the flaws that tell something: in an object of another kind only its kind."""
    other = [f for f in flaws if f.path in (("kind",), ("apiVersion",)) and f.nearest is None]
    return other if any(f.path == ("kind",) and f.found != "nothing" for f in other) else flaws


def _problem(flaw: Flaw, document: Document, done: Sequence[Override]) -> Problem:
    """Say where a flaw stands: at a line of the manifest, or in the ``--set`` that put it there."""
    path = format_path(flaw.path)
    override = _origin(flaw.path, document, done)
    if override is None:
        return Problem(path, flaw.found, flaw.expected, document.line_of(flaw.path), flaw.nearest)
    where = override.where if flaw.path == override.path else f"{override.where}: {path}"
    return Problem(where, flaw.found, flaw.expected, None, flaw.nearest)


def _origin(path: FieldPath, document: Document, done: Sequence[Override]) -> Override | None:
    """Return the override that put what stands at ``path``, None when the manifest's text did."""
    for override in reversed(done):
        if path[: len(override.path)] == override.path:
            return override
    for end in range(len(path), 0, -1):  # an object that was made on the way to what is set
        if path[:end] in document.lines:
            return None
        for override in reversed(done):
            if override.path[:end] == path[:end]:
                return override
    return None
