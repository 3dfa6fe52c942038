"""``--set path=value``: single values over a manifest's, before it is checked. It knows no model and no field."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchyard.api import yamltext
from batchyard.api.errors import Problem
from batchyard.api.strict import Path, format_path
from batchyard.api.words import found

_ROOTS = ("apiVersion", "kind", "metadata", "spec", "status")
_STEP = re.compile(r"(?P<name>(?:[^.\[\]\\]|\\.)+)|\[(?P<index>\d{1,9})\]")


class NotAPath(ValueError):
    """A path that can't be read."""


@dataclass(frozen=True, slots=True)
class Override:
    """One ``--set``, as written and as read."""

    text: str
    path: Path
    value: Any

    @property
    def where(self) -> str:
        """Return how problems name it."""
        return shown(self.text)


def shown(text: str) -> str:
    """Return a ``--set`` as problems name it."""
    return f"--set {text if len(text) <= 80 else text[:79] + '…'}"


def parse(sets: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """Read each ``path=value``; the value is YAML, and a path without a root starts below ``spec``."""
    overrides, problems = [], []
    for text in sets:
        path, equals, value = text.partition("=")
        if not equals:
            problems.append(Problem(shown(text), "no '='", "path=value, such as spec.workers=4"))
            continue
        try:
            overrides.append(Override(text, parse_path(path), _value(text, value, problems)))
        except NotAPath:
            example = "a path such as spec.workers or spec.handler.models.paths[0].path"
            problems.append(Problem(shown(text), f"the path {path!r}", example))
        except yamltext.SyntaxProblem as error:
            problems.append(Problem(shown(text), error.problem.found, error.problem.expected))
    return overrides, problems


def parse_path(text: str) -> Path:
    r"""Return ``a.b[0].c`` in parts; ``\.`` is a dot inside a name. Raises NotAPath."""
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        if text[at] == "." and at > 0:
            at += 1
            if at == len(text) or text[at] in ".[":
                raise NotAPath
        elif at > 0 and text[at] != "[":
            raise NotAPath
        step = _STEP.match(text, at)
        if step is None:
            raise NotAPath
        name = step["name"]
        parts.append(int(step["index"]) if name is None else re.sub(r"\\(.)", r"\1", name.strip()))
        at = step.end()
    if not parts or not isinstance(parts[0], str):
        raise NotAPath
    return tuple(parts) if parts[0] in _ROOTS else ("spec", *parts)


def _value(text: str, value: str, problems: list[Problem]) -> Any:
    documents = yamltext.read(value)
    if len(documents) > 1:
        problems.append(Problem(shown(text), "several YAML documents", "one value"))
    if not documents:
        return None
    problems.extend(Problem(shown(text), p.found, p.expected) for p in documents[0].problems)
    return documents[0].value


def apply(data: dict[str, Any], override: Override) -> Problem | None:
    """Set one value in place, making the objects on its way. Returns what stands in the way, if anything."""
    here: Any = data
    for i, part in enumerate(override.path):
        if problem := _obstacle(here, part, format_path(override.path[:i]), override):
            return problem
        if isinstance(part, int) and part == len(here):
            here.append(None)
        if i == len(override.path) - 1:
            here[part] = override.value
        elif (here[part] if isinstance(part, int) else here.get(part)) is None:
            here[part] = [] if isinstance(override.path[i + 1], int) else {}
        here = here[part]
    return None


def _obstacle(here: Any, part: str | int, where: str, override: Override) -> Problem | None:
    """Return why ``here`` can't be stepped into at ``part``, None when it can; a list's end is a new entry."""
    if isinstance(part, str):
        wrong = not isinstance(here, dict)
        return Problem(override.where, f"{found(here)} at {where}", f"an object with {part}") if wrong else None
    if not isinstance(here, list):
        return Problem(override.where, f"{found(here)} at {where}", "a list")
    if part > len(here):
        within = f"an index from 0 to {len(here)} (the last one appends)"
        return Problem(override.where, f"the index {part} in {where}, which has {len(here)}", within)
    return None
