"""The rules between fields as the API server checks them, in CEL; ``Strict.rules`` of each model says the same.

Apart from ``crd`` so that all of them can be read on one page. Messages are the words of ``batchyard validate``.
A model whose rules are not here fails a test.
"""

from typing import Any

from pydantic import BaseModel

from batchyard.api.handler import EnvVar, Handler, Models, Project
from batchyard.api.scalars import JOB_NAME, MAX_JOB_NAME
from batchyard.api.spec import MUTABLE, Backoff, Input, Spec
from batchyard.api.storage import Storage
from batchyard.api.strict import Strict, fields, join

Rule = dict[str, Any]

REQUIRED, FORBIDDEN, DUPLICATE = "FieldValueRequired", "FieldValueForbidden", "FieldValueDuplicate"


def _rule(rule: str, message: str, at: str | None = None, reason: str | None = None) -> Rule:
    made = {"rule": rule, "message": message, "fieldPath": at, "reason": reason}
    return {name: value for name, value in made.items() if value is not None}


NAME = (
    _rule(
        f"self.metadata.name.size() <= {MAX_JOB_NAME} && "
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        f"metadata.name: expected {JOB_NAME.expected}",
    ),
)
"""The name of the object, which stands outside of the models that have a schema."""


def matching(patterns: list[str], expected: str, longest: float | None = None) -> Rule:
    """Return the rule of a string that each pattern is found in; ``longest`` bounds a duration, in seconds."""
    parts = ["self.matches('{}')".format(pattern.replace("\\", "\\\\").replace("'", "\\'")) for pattern in patterns]
    if longest is not None:
        parts.append(f"duration(self) <= duration('{longest:.0f}s')")
    return _rule(" && ".join(parts), f"expected {expected}")


def of(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a model's schema needs for its rules."""
    made: dict[str, Any] = {}
    rules = list(RULES.get(model, ()))
    names = model.exactly_one if issubclass(model, Strict) else ()
    if model is Input:
        # `items` may hold any values, and CEL doesn't see fields whose type is open
        made["oneOf"] = [{"required": [name]} for name in names]
    elif names:
        count = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in names)
        rules.insert(0, _rule(f"{count} == 1", f"expected exactly one of {join(names, 'and')}"))
    if rules:
        made["x-kubernetes-validations"] = rules
    return made


def _immutable() -> list[Rule]:
    """Return a rule a field of ``spec`` that may not change; one that was left out may not come later either."""
    message = f"can't be changed once the job exists; only {join(MUTABLE, 'and')} can"
    return [
        # not self.?x == oldSelf.?x: what may be absent has no bounds to the server's estimate of costs
        _rule(
            f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
            f"spec.{name} {message}",
            f".{name}",
            FORBIDDEN,
        )
        for name in fields(Spec)
        if name not in MUTABLE
    ]


def _not_for_python(name: str) -> Rule:
    message = f"expected no {name}, because type is python (a job with models has type tensorflow)"
    return _rule(f"self.type != 'python' || !has(self.{name})", message, f".{name}", FORBIDDEN)


RULES: dict[type[BaseModel], list[Rule]] = {
    Spec: _immutable(),
    Handler: [
        _rule(
            "self.type != 'tensorflow' || has(self.models)",
            "expected models with path, paths or dir, because type is tensorflow",
            ".models",
            REQUIRED,
        ),
        _rule(
            "self.type != 'python' || has(self.path)",
            "expected the handler's file, because type is python (the built-in handler predicts)",
            ".path",
            REQUIRED,
        ),
        *(_not_for_python(name) for name in ("models", "servingImage", "servingResources")),
        _rule(
            "!has(self.path) || !has(self.project) || !has(self.project.inline) || self.path in self.project.inline",
            "expected a file of project.inline",
            ".path",
        ),
    ],
    EnvVar: [_rule("!has(self.value) || !has(self.valueFrom)", "expected one of value and valueFrom")],
    Project: [
        _rule(
            r"!has(self.inline) || self.inline.all(name, name != '' && !name.startsWith('/') && "
            r"!name.contains('\\') && !('/' + name + '/').contains('/../'))",
            "expected relative paths that stay in the project",
            ".inline",
        )
    ],
    Storage: [
        _rule(
            "!has(self.endpoint) || !self.endpoint.contains('@')",
            "expected an endpoint without a user or a password in it: credentials never stand here",
            ".endpoint",
        )
    ],
    Backoff: [_rule("duration(self.max) >= duration(self.initial)", "expected max not below initial", ".max")],
    # no name twice: a key of the list says so (crd)
    Models: [],
    # the size of inline items: the API server's own limit of an object
    Input: [],
}
