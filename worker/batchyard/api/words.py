"""What a field expects and what was found, in plain words. Apart because problems and the reference share them."""

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from batchyard.api.scalars import SET_BY_KUBERNETES, Words
from batchyard.api.strict import fields, join

_MOST_NAMES = 5  # field names that a sentence bears; of more, the required ones are named
_WIDEST = 60  # characters of a found value that a sentence bears


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the tree of models: its type and the constraints on it."""

    annotation: Any
    constraints: tuple[Any, ...] = ()

    @property
    def model(self) -> type[BaseModel] | None:
        """The model that stands here, None when it is something else."""
        return (
            self.annotation if isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel) else None
        )

    @property
    def choices(self) -> list[str]:
        """The values of a Literal or an enumeration."""
        if get_origin(self.annotation) is Literal:
            return [str(value) for value in get_args(self.annotation)]
        members = getattr(self.annotation, "__members__", None)
        return [str(member.value) for member in members.values()] if members else []

    def step(self, part: str | int) -> "Place | None":
        """Return the place below, None when there is none."""
        if self.model is not None:
            name = fields(self.model).get(str(part))
            return place_of(self.model.model_fields[name]) if name else None
        arguments = get_args(self.annotation)
        if get_origin(self.annotation) in (list, dict) and arguments:
            return unwrap(arguments[-1])
        return None

    def below(self) -> "Place":
        """Return the place of a list's entries; itself for anything else."""
        return unwrap(get_args(self.annotation)[0]) if get_origin(self.annotation) is list else self


def unwrap(annotation: Any, constraints: tuple[Any, ...] = ()) -> Place:
    """Return the place of an annotation, without ``Annotated`` and ``| None``; outer constraints come first."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        flat = [c for m in more for c in (m.metadata if isinstance(m, FieldInfo) else [m])]
        return unwrap(inner, (*constraints, *flat))
    if get_origin(annotation) in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        if len(options) == 1:
            return unwrap(options[0], constraints)
    return Place(annotation, constraints)


def place_of(field: FieldInfo) -> Place:
    """Return the place of a model's field."""
    return unwrap(field.annotation, tuple(field.metadata))


def written(model: type[BaseModel]) -> list[str]:
    """Return the fields of a model that users write."""
    names = fields(model).items()
    return [alias for alias, name in names if words_of(place_of(model.model_fields[name])) is not SET_BY_KUBERNETES]


def words_of(place: Place) -> Words | None:
    """Return the words that a type carries itself."""
    own = next((c for c in place.constraints if isinstance(c, Words)), None)
    return own or getattr(place.annotation, "words", None)


def expected(place: Place) -> str:
    """Return what is expected at a place, to be read after "expected"."""
    if words := words_of(place):
        return words.expected
    if place.choices:
        return join(place.choices, "or")
    if place.model is not None:
        names = written(place.model)
        if len(names) > _MOST_NAMES:
            required = [n for n in names if place.model.model_fields[fields(place.model)[n]].is_required()]
            return f"an object with {', '.join(required or names[:3])}, …"
        return f"an object with {join(names, 'and')}"
    arguments = get_args(place.annotation)
    if get_origin(place.annotation) is list:
        some = " that is not empty" if any(isinstance(c, MinLen) for c in place.constraints) else ""
        most = next((f" of at most {c.max_length}" for c in place.constraints if isinstance(c, MaxLen)), "")
        each = unwrap(arguments[0])
        return f"a list{some}{most}" + ("" if each.annotation is Any else f", each {expected(each)}")
    if get_origin(place.annotation) is dict:
        each = unwrap(arguments[1])
        return "an object" + ("" if each.annotation is Any else f" of names, each with {expected(each)}")
    if place.annotation in (int, float):
        return ("a whole number" if place.annotation is int else "a number") + _range(place.constraints)
    return {bool: "true or false", str: "a string"}.get(place.annotation, "any value")


def _range(constraints: tuple[Any, ...]) -> str:
    low = next((c.ge for c in constraints if isinstance(c, Ge)), None)
    high = next((c.le for c in constraints if isinstance(c, Le)), None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else ""


def short_type(place: Place) -> str:
    """Return the type of a place for a table."""
    if words := words_of(place):
        return words.short
    if get_origin(place.annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in place.choices)
    if place.choices:
        return "string"
    if place.model is not None:
        return "object"
    if get_origin(place.annotation) is list:
        return f"list of {_plural(short_type(place.below()))}"
    if get_origin(place.annotation) is dict:
        each = unwrap(get_args(place.annotation)[1])
        return "object" if each.annotation is Any else f"object of {_plural(short_type(each))}"
    if place.annotation in (int, float):
        return ("integer" if place.annotation is int else "number") + _range(place.constraints).replace(" of", ",")
    return {bool: "boolean", str: "string"}.get(place.annotation, "any value")


def _plural(short: str) -> str:
    head, comma, rest = short.partition(",")
    if head == "any value":
        return "any values"
    if head.endswith("y"):
        return f"{head[:-1]}ies{comma}{rest}"
    return f"{head}s{comma}{rest}" if " or " not in head else "paths or s3:// URLs"


def found(value: Any) -> str:
    """Return a value in few words, to be read after "found"."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        names = [str(name) for name in value]
        return f"an object with {join(names[:5], 'and' if len(names) <= 5 else ',')}" if names else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    text = repr(value)
    text = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
    return text if isinstance(value, str) else f"the number {text}" if isinstance(value, (int, float)) else text
