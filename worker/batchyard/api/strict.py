"""What every object of a BatchJob shares: camelCase names, nothing unknown, nothing converted, nothing changed later.

Apart so that the models hold fields and rules alone. A rule that looks at several fields of one object is a method
over what the user gave, not over the finished model: so it speaks also when another field of the object is wrong, and
a manifest's problems all come at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, model_validator
from pydantic.alias_generators import to_camel

Path = tuple[str | int, ...]
"""Where a value stands: names and list positions, from the object that is checked."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One wrong value at ``path``, in words that read after "found" and "expected"."""

    path: Path
    found: str
    expected: str
    nearest: str | None = None


class FlawsError(ValueError):
    """An object breaks its rules; pydantic reports it as one error of the object."""

    def __init__(self, flaws: list[Flaw]) -> None:
        super().__init__("; ".join(f"{format_path(f.path)}: found {f.found}, expected {f.expected}" for f in flaws))
        self.flaws = flaws


class Strict(BaseModel):
    """One object of a BatchJob. A null is a field left out, as the API server prunes it before it sets defaults."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, ser_json_inf_nan="constants"
    )

    exactly_one: ClassVar[tuple[str, ...]] = ()
    """Fields of which exactly one is given."""

    @classmethod
    def given(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return what counts as given: ``raw`` without the nulls of known fields."""
        known = fields(cls)
        return {name: value for name, value in raw.items() if value is not None or name not in known}

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterator[Flaw]:
        """Yield what is wrong between fields. Values may be of any type here: what a rule can't read, it skips."""
        if not cls.exactly_one:
            return
        found = [name for name in cls.exactly_one if name in given]
        if len(found) != 1:
            yield Flaw(
                (),
                join(found, "and") if found else f"none of {join(cls.exactly_one, 'and')}",
                f"exactly one of {join(cls.exactly_one, 'and')}",
            )

    @model_validator(mode="wrap")
    @classmethod
    def _obey_the_rules(cls, data: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict):
            return make(data)
        given = cls.given(data)
        made = make(given)
        if flaws := list(cls.rules(given)):
            raise FlawsError(flaws)
        return made


def fields(model: type[BaseModel]) -> dict[str, str]:
    """Return a model's field names as manifests write them, each with its Python name."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def format_path(path: Path) -> str:
    """Return ``spec.handler.models.paths[1].name``; a name that holds a dot stands in brackets and quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and all(c.isalnum() or c in "_-" for c in part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text or "the manifest"


def join(words: list[str] | tuple[str, ...], last: str) -> str:
    """Return "a, b or c"; ``last`` is the word before the last one."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
