"""YAML to plain JSON values with the line of each, apart because PyYAML forgets lines once it has made values.

Scalars follow YAML 1.2's core schema: ``yes``, ``on`` and dates are strings, so a manifest holds nothing that JSON
can't say but NaN and infinity. Nothing is shared between two places: an alias is a copy.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from batchyard.api.errors import Problem
from batchyard.api.strict import Path, format_path

MAX_DEPTH = 100
MAX_VALUES = 2_000_000  # a manifest's inline items end at 1 MiB; aliases of aliases can grow without end

_TAG = "tag:yaml.org,2002:"
_CORE = {  # YAML 1.2, section 10.3.2; with the first characters, which PyYAML looks up
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),  # YAML 1.1, but what everybody uses with anchors
}
_PATTERNS = {tag: re.compile(rf"(?:{pattern})\Z") for tag, (pattern, _) in _CORE.items()}
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: ten times as fast


class _Loader(_BASE):  # type: ignore[misc]  # the base is chosen above
    """Composes nodes whose plain scalars carry the tags of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name and type


for _tag, (_, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_TAG + _tag, _PATTERNS[_tag], _first)


@dataclass(slots=True)
class Document:
    """One YAML document: its value, the line of each path (from 1), and what is wrong with it."""

    value: Any
    line: int
    lines: dict[Path, int]
    problems: list[Problem]

    def line_of(self, path: Path) -> int:
        """Return the line of the longest known part of ``path``."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return self.line


class SyntaxProblem(Exception):
    """The text isn't YAML at all."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence())
        self.problem = problem


def read(text: str) -> list[Document]:
    """Return the documents of a text, empty ones left out. Raises SyntaxProblem."""
    documents = []
    for node in _compose(_joined(text)):
        build = _Build()
        value = build.value(node, ())
        if value is not None or build.problems:
            documents.append(Document(value, node.start_mark.line + 1, build.lines, build.problems))
    return documents


def _joined(text: str) -> str:
    """Return JSON with each pair of surrogate escapes as its one character: YAML takes no halves of characters."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return text
    return _PAIR.sub(lambda m: m[1] + chr(0x10000 + (int(m[2], 16) % 0x400 << 10) + int(m[3], 16) % 0x400), text)


def _compose(text: str) -> Iterator[Any]:
    try:
        _check_depth(text)
        loader = _Loader(text)
        try:
            while loader.check_node():
                yield loader.get_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise SyntaxProblem(_broken(text, error)) from error
    except yaml.reader.ReaderError as error:
        bad = yaml.reader.Reader.NON_PRINTABLE.search(text)
        at = bad.start() if bad else 0
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        found = f"the control character {text[at]!r}"
        raise SyntaxProblem(Problem(f"column {column}", found, "printable text", line)) from error


def _check_depth(text: str) -> None:
    """Refuse deep nesting before nodes are made: libyaml's composer recurses in C until the process dies."""
    depth = 0
    loader = _Loader(text)
    try:
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                column, line = event.start_mark.column + 1, event.start_mark.line + 1
                found, most = f"nesting deeper than {MAX_DEPTH} levels", f"at most {MAX_DEPTH} levels"
                raise SyntaxProblem(Problem(f"column {column}", found, most, line))
    finally:
        loader.dispose()


def _broken(text: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = (error.problem or str(error)).removeprefix("found ")
    if mark is None:
        return Problem("the file", f"broken YAML ({said})", "valid YAML")
    line = [*text.split("\n"), ""][mark.line : mark.line + 1]
    if line and line[0][mark.column : mark.column + 1] == "\t":
        return Problem(f"column {mark.column + 1}", "a tab", "spaces (YAML indents by spaces alone)", mark.line + 1)
    return Problem(f"column {mark.column + 1}", f"broken YAML ({said})", "valid YAML", mark.line + 1)


@dataclass(slots=True)
class _Build:
    """Makes values of one document's nodes."""

    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    values: int = 0

    def value(self, node: Any, path: Path) -> Any:
        self.values += 1
        if len(path) > MAX_DEPTH or self.values > MAX_VALUES:
            if self.values <= MAX_VALUES + 1:
                most = f"{MAX_DEPTH} levels" if len(path) > MAX_DEPTH else f"{MAX_VALUES:,} values"
                self._wrong(
                    node, path[:8], f"more than {most}", f"at most {most} (an alias that holds itself has no end)"
                )
                self.values = MAX_VALUES + 1
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, path, "seq")
            made = []
            for i, entry in enumerate(node.value):
                below = (*path, i)
                self.lines[below] = entry.start_mark.line + 1
                made.append(self.value(entry, below))
            return made
        return self._scalar(node, path)

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        self._check_tag(node, path, "map")
        made: dict[str, Any] = {}
        own: dict[str, int] = {}
        merged: list[Any] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(key, path, "an object or a list as a field's name", "a string")
            elif key.tag == _TAG + "merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif key.value in own:
                found = f"{key.value} a second time (first on line {own[key.value]})"
                self._wrong(key, (*path, key.value), found, "each field once")
            else:
                own[key.value] = line
                self.lines[(*path, key.value)] = line
                made[key.value] = self.value(value, (*path, key.value))
        for other in merged:
            self._merge(other, path, made)
        return made

    def _merge(self, node: Any, path: Path, made: dict[str, Any]) -> None:
        """Add what ``<<`` names: what stands in the object itself wins, then the earlier one."""
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, (*path, "<<"), "a value that is no object", "an object to merge")
            return
        inner = _Build(values=self.values)
        value = inner.value(node, path)
        self.values = inner.values
        self.problems += [problem for problem in inner.problems if problem not in self.problems]
        for name in value or {}:
            if name not in made:
                made[name] = value[name]
                self.lines |= {p: n for p, n in inner.lines.items() if p[len(path)] == name}

    def _scalar(self, node: Any, path: Path) -> Any:
        tag = node.tag.removeprefix(_TAG)
        if tag not in _READERS:
            self._wrong(node, path, f"the YAML tag {_short(node.tag)}", "plain values")
            return None
        if tag in _PATTERNS and not _PATTERNS[tag].match(node.value):
            self._wrong(node, path, f"{node.value[:40]!r} tagged as {tag}", f"a value that reads as {tag}")
            return None
        try:
            return _READERS[tag](node.value)
        except ValueError:  # Python's own limit on digits
            self._wrong(node, path, f"a number of {len(node.value)} digits", "a number of at most 4300 digits")
            return None

    def _check_tag(self, node: Any, path: Path, tag: str) -> None:
        if node.tag != _TAG + tag:
            self._wrong(node, path, f"the YAML tag {_short(node.tag)}", "plain values")

    def _wrong(self, node: Any, path: Path, found: str, expected: str) -> None:
        self.problems.append(Problem(format_path(path), found, expected, node.start_mark.line + 1))


def _short(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _int(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "merge": str,  # a value "<<" is only text
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": _int,
    "float": _float,
}
