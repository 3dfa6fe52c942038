"""From data that isn't a BatchJob to one flaw a wrong field, in plain words: pydantic's errors and the rules'."""

import difflib
from collections.abc import Iterator
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from batchyard.api import words
from batchyard.api.errors import nearest
from batchyard.api.scalars import JOB_NAME, MAX_JOB_NAME, Duration
from batchyard.api.strict import Flaw, Path, Strict, fields, format_path, join

M = TypeVar("M", bound=Strict)

_SHORT = 4  # characters of a name that is like too many others elsewhere
_FROM_JOBS = {  # what a user of Kubernetes' own Jobs would write
    "parallelism": "spec.workers",
    "completions": "spec.workers",
    "replicas": "spec.workers",
    "backofflimit": "spec.retry.maxAttempts",
    "activedeadlineseconds": "spec.timeout",
    "generatename": "metadata.name",
}


def check(model: type[M], data: Any) -> tuple[M | None, list[Flaw]]:
    """Return ``data`` as a model, or None and every flaw, one a path, in the order of the data."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        # what broke a rule is found again by `_rules`, with the rules of objects whose fields are wrong
        broken = [e for e in error.errors(include_url=False) if e["type"] != "value_error" or not _is_rule(e)]
    flaws = [_flaw(model, e) for e in broken] + list(_rules(words.Place(model), data, ()))
    unknown = {f.path[:-1]: f.nearest for e, f in zip(broken, flaws, strict=False) if e["type"] == "extra_forbidden"}
    kept: dict[Path, Flaw] = {}
    for flaw in flaws:
        if not _is_echo(flaw, unknown):
            kept.setdefault(flaw.path, flaw)
    return None, list(kept.values())


def _is_rule(error: ErrorDetails) -> bool:
    return hasattr(error.get("ctx", {}).get("error"), "flaws")


def _is_echo(flaw: Flaw, unknown: dict[Path, str | None]) -> bool:
    """Tell whether a field is only missing because its name is misspelt, which is said already."""
    if flaw.found == "nothing":
        return unknown.get(flaw.path[:-1]) == flaw.path[-1]
    near = unknown.get(flaw.path)
    return flaw.found.startswith("none of ") and near is not None and near in flaw.found


def _rules(place: words.Place, data: Any, path: Path) -> Iterator[Flaw]:
    """Yield what the rules of every object in ``data`` say."""
    if isinstance(data, list):
        if words.unwrap(place.below().annotation).model is not None:
            for i, entry in enumerate(data):
                yield from _rules(place.below(), entry, (*path, i))
        return
    if place.model is None or not issubclass(place.model, Strict) or not isinstance(data, dict):
        return
    given = place.model.given(data)
    for flaw in place.model.rules(given):
        yield Flaw((*path, *flaw.path), flaw.found, flaw.expected, flaw.nearest)
    for name, value in given.items():
        below = place.step(name)
        if below is not None:
            yield from _rules(below, value, (*path, name))


def _flaw(model: type[BaseModel], error: ErrorDetails) -> Flaw:
    path: Path = tuple(part for part in error["loc"] if part != "[key]")
    place: words.Place | None = words.Place(model)
    parent: words.Place | None = None
    for part in path:
        parent, place = place, place.step(part) if place else None
    if error["type"] == "extra_forbidden" and parent is not None and parent.model is not None:
        return _unknown(model, parent.model, path)
    expects = words.expected(place) if place else "another value"
    if error["type"] == "missing":
        return Flaw(path, "nothing", expects)
    value = error["input"]
    near, hint = _near(place, value) if place else (None, "")
    return Flaw(path, words.found(value), expects + hint, near)


def _near(place: words.Place, value: Any) -> tuple[str | None, str]:
    """Return the nearest valid value and a hint for what is easily mistaken."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    kind = place.annotation
    if kind is Duration and is_number:
        return (f"{value:g}s" if value > 0 else None), ", with its unit"
    if place.choices:
        return nearest(str(value), place.choices) if isinstance(value, str) else None, ""
    if kind is str and (is_number or isinstance(value, bool)):
        return None, "" if "quotes" in words.expected(place) else ", in quotes"
    if kind in (int, float, bool) and isinstance(value, str):
        return None, ", without quotes" if _reads_as(kind, value) else ""
    if get_origin(kind) is list and isinstance(value, str):
        return None, f" (write [{value}])" if len(value) <= 40 else ""
    if words.words_of(place) == JOB_NAME and isinstance(value, str):
        dashed = "".join(c if c.isascii() and c.isalnum() else "-" for c in value.lower())
        return dashed.strip("-")[:MAX_JOB_NAME].strip("-") or None, ""
    return None, ""


def _reads_as(kind: type, text: str) -> bool:
    if kind is bool:
        return text in ("true", "false")
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _unknown(root: type[BaseModel], parent: type[BaseModel], path: Path) -> Flaw:
    """Return the flaw of an unknown field: misspelt, misplaced, or neither."""
    name, here = str(path[-1]), words.written(parent)
    index = _index(root)
    elsewhere = _closest(index.get(_folded(name), []), path)
    near = next((field for field in here if _folded(field) == _folded(name)), None)
    if near is None and len(elsewhere) == 1:
        near = elsewhere[0]
    if near is None and not elsewhere:
        near = _FROM_JOBS.get(_folded(name)) or _alike(name, here, index, path)
    where = format_path(path[:-1])
    expects = f"a field of {where}" if near else f"one of {join(here, 'and')}"
    if near is None and elsewhere:
        expects += f" ({name} belongs in {join(sorted(elsewhere), 'or')})"
    return Flaw(path, "an unknown field", expects, near)


def _alike(name: str, here: list[str], index: dict[str, list[str]], path: Path) -> str | None:
    """Return the field here or elsewhere whose name is most like ``name``; of equals the one here."""
    sibling, other = nearest(name, here), nearest(_folded(name), index)
    places = _closest(index[other], path) if other and len(name) > _SHORT else []
    if len(places) != 1 or (sibling and _likeness(name, sibling) >= _likeness(name, places[0].rpartition(".")[2])):
        return sibling
    return places[0]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, _folded(one), _folded(other)).ratio()


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _closest(places: list[str], path: Path) -> list[str]:
    """Return the places that share most with ``path``, and of these the shallowest."""

    def rank(place: str) -> tuple[int, int]:
        shared = 0
        for theirs, ours in zip(place.replace("[]", "").split("."), path[:-1], strict=False):
            if theirs != ours:
                break
            shared += 1
        return -shared, place.count(".")

    best = min(map(rank, places), default=None)
    return [place for place in places if rank(place) == best]


def _index(model: type[BaseModel], prefix: str = "") -> dict[str, list[str]]:
    """Return where each field name stands in a tree of models, but for its status."""
    found: dict[str, list[str]] = {}
    for alias, name in fields(model).items():
        if prefix == "" and alias == "status":
            continue
        place = words.place_of(model.model_fields[name])
        found.setdefault(_folded(alias), []).append(prefix + alias)
        inner = place.below()
        if inner.model is not None:
            step = "" if inner is place else "[]"
            for folded, places in _index(inner.model, f"{prefix}{alias}{step}.").items():
                found.setdefault(folded, []).extend(places)
    return found
