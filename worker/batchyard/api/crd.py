"""Write the CustomResourceDefinition from the models: ``python -m batchyard.api.crd OUT.yaml``.

It walks the models itself, as ``words`` does, because pydantic's JSON schema is none that an API server takes:
structural schemas know no ``$ref`` and no ``anyOf`` with null, and what is checked by Python code is lost in it.
Rules between fields are in ``crd_rules``. A test fails when ``crds/`` differs.
"""

import inspect
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from batchyard.api import crd_rules, words
from batchyard.api.handler import PIP, VERSIONS, Handler, Models
from batchyard.api.scalars import KUBERNETES_OBJECT, LONGEST, QUANTITY, Duration, Matches
from batchyard.api.spec import API_VERSION, KIND, Spec
from batchyard.api.status import Status
from batchyard.api.strict import fields

GROUP, VERSION = API_VERSION.split("/")
PLURAL = "batchjobs"

Schema = dict[str, Any]

_FREE = "x-kubernetes-preserve-unknown-fields"

_LIST_KEYS = {(Models, "paths"): "name", (Handler, "env"): "name", (Status, "conditions"): "type"}
"""Lists whose entries have a field that no other entry has: the API server refuses a second one, and merges by it."""

_OPEN = {"state", "type"}
"""Fields of the status whose constants may grow: an operator newer than the CRD must be able to write them."""

_COLUMNS = (
    ("State", "string", ".status.state", 0, "Where the job stands."),
    ("Progress", "string", ".status.progress", 0, "Settled of all batches."),
    ("Failed", "integer", ".status.batches.failed", 0, "Batches that failed for good."),
    ("Workers", "integer", ".status.workers.ready", 0, "Workers that take batches."),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Time since the job was made."),
    ("Rate", "string", ".status.rate", 1, "Batches settled lately."),
    # no date: kubectl shows the time since a date, and <invalid> for one that is yet to come
    ("ETA", "string", ".status.estimatedCompletionTime", 1, "When it ends at the present rate."),
    ("Reason", "string", ".status.reason", 1, "Why, as a constant."),
)

_HEAD = "# Written by `make crds` from the models; edits here are lost.\n"


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition, as plain values that belong to the caller."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["bj"],
                "categories": ["all", "batchyard"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.workers",
                            "statusReplicasPath": ".status.workers.ready",
                        },
                    },
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                }
            ],
        },
    }


def render() -> str:
    """Return the definition as YAML."""
    text: str = yaml.dump(definition(), Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True)
    return _HEAD + text


class _Plain(yaml.SafeDumper):
    """Writes equal values out again each time: an anchor in a manifest is nothing for readers."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _column(name: str, kind: str, path: str, priority: int, told: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": told}


def _root() -> Schema:
    return {
        "type": "object",
        "description": "A batch job: one handler over many items.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _object(Spec) | {"description": _told(Spec)},
            "status": _object(Status, is_status=True) | {"description": _told(Status)},
        },
        "x-kubernetes-validations": list(crd_rules.NAME),
    }


def _told(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _object(model: type[BaseModel], *, is_status: bool = False, is_entry: bool = False) -> Schema:
    """Return the schema of a model, with its rules. A status has no closed set of constants.

    Below a list (``is_entry``) patterns stay patterns: the server multiplies the estimated cost of a rule by the
    number of entries, which has no bound.
    """
    made: Schema = {"type": "object", "properties": {}}
    required = []
    for alias, name in fields(model).items():
        field = model.model_fields[name]
        place = words.place_of(field)
        schema = _value(place, is_status=is_status, is_entry=is_entry)
        if not is_entry:
            schema = _in_words(place, schema)
        if is_status and alias in _OPEN:
            schema.pop("enum", None)
        if key := _LIST_KEYS.get((model, alias)):
            schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        made["properties"][alias] = {"description": field.description or ""} | schema | _default(field)
        if field.is_required():
            required.append(alias)
    if required:
        made["required"] = required
    return made | crd_rules.of(model)


def _default(field: FieldInfo) -> Schema:
    """Return a field's default; an empty one is left out, which means the same and keeps stored objects small."""
    if field.is_required():
        return {}
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        # in full: the API server holds a default to the rules before it fills in the defaults of its fields
        return {"default": value.model_dump(mode="json", by_alias=True)}
    if value is None or value in ("", [], {}):
        return {}
    return {"default": str(value) if isinstance(value, str) else value}


def _value(place: words.Place, *, is_status: bool = False, is_entry: bool = False) -> Schema:
    """Return the schema of any place."""
    known = words.words_of(place)
    if known is KUBERNETES_OBJECT:
        return {"type": "object", _FREE: True}
    if known is QUANTITY:
        return _untyped("object", "array", "boolean") | _limits(place)
    if known is PIP:
        return _untyped("object", "number", "boolean") | {"minLength": 1, "minItems": 1}
    if known is VERSIONS:
        return _untyped("object", "number", "boolean") | {"pattern": "^latest$", "minItems": 1}
    if place.choices:
        return {"type": "string", "enum": place.choices}
    if place.model is not None:
        return _object(place.model, is_status=is_status, is_entry=is_entry)
    if get_origin(place.annotation) is list:
        each = words.unwrap(get_args(place.annotation)[0])
        return {"type": "array", "items": _value(each, is_status=is_status, is_entry=True)} | _limits(place, "Items")
    if get_origin(place.annotation) is dict:
        return _map(words.unwrap(get_args(place.annotation)[1])) | _limits(place, "Properties")
    if place.annotation is Any:
        return {_FREE: True, "nullable": True}
    return _scalar(place.annotation) | _limits(place)


def _map(each: words.Place) -> Schema:
    if each.annotation is Any:
        return {"type": "object", _FREE: True}
    return {"type": "object", "additionalProperties": _value(each)}


def _scalar(annotation: Any) -> Schema:
    if annotation is Duration:
        return {"type": "string"}
    if annotation is AwareDatetime:
        return {"type": "string", "format": "date-time"}
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number"}
    if annotation not in kinds:
        raise TypeError(f"no schema for {annotation!r}: teach batchyard.api.crd the type")
    return {"type": kinds[annotation]}


_NEVER: dict[str, Schema] = {
    "object": {"minProperties": 1, "maxProperties": 0},
    "array": {"minItems": 1, "maxItems": 0},
    "number": {"minimum": 1, "maximum": 0},
    "boolean": {"not": {"enum": [True, False]}},
}
"""Bounds that no value of the type keeps to, and that say nothing of values of other types."""


def _untyped(*refused: str) -> Schema:
    """Return the schema of a value that may have one of several types: all but those ``refused``.

    A structural schema names one type or none. Without one, a type is refused by bounds that it alone has.
    """
    made: Schema = {_FREE: True}
    for kind in refused:
        made |= _NEVER[kind]
    return made


def _limits(place: words.Place, of: str = "Length") -> Schema:
    """Return the bounds and patterns of a place. Several patterns stand in allOf, the only place for a second one."""
    made: Schema = {}
    for constraint in place.constraints:
        if isinstance(constraint, Ge):
            made["minimum"] = constraint.ge
        elif isinstance(constraint, Le):
            made["maximum"] = constraint.le
        elif isinstance(constraint, MinLen):
            made[f"min{of}"] = constraint.min_length
        elif isinstance(constraint, MaxLen):
            made[f"max{of}"] = constraint.max_length
    patterns = _patterns(place)
    if len(patterns) == 1:
        made["pattern"] = patterns[0]
    elif patterns:
        made["allOf"] = [{"pattern": pattern} for pattern in patterns]
    return made


def _patterns(place: words.Place) -> list[str]:
    found = [Duration.pattern] if place.annotation is Duration else []
    for constraint in place.constraints:
        if isinstance(constraint, Matches):
            found += constraint.patterns
        elif pattern := getattr(constraint, "pattern", None):
            found.append(pattern)
    return found


def _in_words(place: words.Place, schema: Schema) -> Schema:
    """Return the schema of a string with its patterns as a rule, whose message says what is expected."""
    known, patterns = words.words_of(place), _patterns(place)
    if schema.get("type") != "string" or not patterns or known is None:
        return schema
    kept = {name: value for name, value in schema.items() if name not in ("pattern", "allOf")}
    longest = LONGEST if place.annotation is Duration else None
    return kept | {"x-kubernetes-validations": [crd_rules.matching(patterns, known.expected, longest)]}


def main(arguments: list[str]) -> int:
    """Write the definition to the one argument. Returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m batchyard.api.crd OUT.yaml\n")
        return 2
    out = Path(arguments[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
