"""Reads the class and the methods that a user wrote and says what is wrong with them.

Apart from ``contract``, which holds the rules: here is how Python's many ways of writing a method are read.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, WrapperDescriptorType
from typing import Any, NoReturn

from batchyard.api.errors import nearest
from batchyard.handler.errors import HandlerInvalid

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_HOMES = {
    "tensorflow_client": "__init__",
    "config": "__init__",
    "job_spec": "__init__",
    "payload": "handle_batch",
    "batch_id": "handle_batch",
}


@dataclass(frozen=True)
class Rule:
    """What one method of the contract looks like. ``refused``: names never passed, each with the reason why."""

    name: str
    must_exist: bool
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    def expected(self) -> str:
        """Return the signature to write, and what of it may be left out."""
        text = f"`def {self.name}({', '.join(('self', *self.required, *self.optional))})`"
        if not self.optional:
            return text
        return f"{text} ({' and '.join(self.optional)} may be left out)"


@dataclass(frozen=True)
class _Method:
    """A method as written. ``binds``: whether its first argument is the instance (or the class)."""

    rule: Rule
    place: str
    function: Any
    signature: inspect.Signature
    binds: bool

    def refuse(self, what: str) -> NoReturn:
        """Raise HandlerInvalid: where, what is wrong, the signature found and the one expected."""
        found = f"`def {self.rule.name}{_plain(self.signature)}`"
        raise HandlerInvalid(
            f"{self.place}: Handler.{self.rule.name} {what}; found {found}, expected {self.rule.expected()}."
        )


def find_class(module: ModuleType) -> type:
    """Return the module's ``Handler``. Raises HandlerInvalid when there is none or it cannot be constructed."""
    file = _shown(module.__file__ or module.__name__)
    if not hasattr(module, "Handler"):
        raise HandlerInvalid(f"{file}: found no class Handler, expected `class Handler:`.{_class_hint(module)}")
    cls = module.Handler
    if not isinstance(cls, type):
        kind = "a function" if inspect.isfunction(cls) else f"a value of type {type(cls).__name__}"
        raise HandlerInvalid(f"{file}: Handler is {kind}, expected a class (`class Handler:`).")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise HandlerInvalid(f"{_class_place(module, cls)}: Handler is abstract, expected it to define {missing}.")
    return cls


def passed(module: ModuleType, cls: type, rule: Rule) -> tuple[str, ...] | None:
    """Return the arguments that the method is to be given by name; None when it is not there and need not be.

    Raises HandlerInvalid for every way of writing it that the contract does not allow.
    """
    method = _find(module, cls, rule)
    if method is None:
        return None
    _refuse_kind(method)
    parameters = _after_self(method)
    _refuse_arguments(method, parameters)
    names = tuple(n for n in (*rule.required, *rule.optional) if n in parameters)
    _refuse_decorator(method, names)
    return names


def _find(module: ModuleType, cls: type, rule: Rule) -> _Method | None:
    absent = object()
    raw = inspect.getattr_static(cls, rule.name, absent)
    if raw is absent or isinstance(raw, WrapperDescriptorType):  # the latter: object.__init__ and the like
        if rule.must_exist:
            raise HandlerInvalid(
                f"{_class_place(module, cls)}: Handler has no method {rule.name}, expected {rule.expected()}."
                + _method_hint(module, cls, rule)
            )
        return None
    function = getattr(cls, rule.name)
    place = _place(module, cls, function)
    if not callable(function):
        raise HandlerInvalid(
            f"{place}: Handler.{rule.name} is of type {type(raw).__name__}, expected a method: {rule.expected()}."
        )
    inner = function.__func__ if isinstance(raw, classmethod) else function
    try:
        signature = inspect.signature(inner)
    except (ValueError, TypeError):
        raise HandlerInvalid(
            f"{place}: the signature of Handler.{rule.name} cannot be read, expected {rule.expected()}; "
            "wrap it in a method written in Python."
        ) from None
    binds = hasattr(type(raw), "__get__") and not isinstance(raw, staticmethod)
    if rule.name == "__init__" and isinstance(raw, (staticmethod, classmethod)):
        raise HandlerInvalid(f"{place}: Handler.__init__ is a {type(raw).__name__}, expected {rule.expected()}.")
    return _Method(rule, place, inner, signature, binds)


def _refuse_kind(method: _Method) -> None:
    function = method.function
    if inspect.iscoroutinefunction(function):
        method.refuse("is `async def`, which nobody awaits: write `def` and run async code in it by asyncio.run(…)")
    if inspect.isasyncgenfunction(function):
        method.refuse("is `async def` with yield, so that calling it runs nothing")
    if inspect.isgeneratorfunction(function):
        method.refuse("has a yield in it, so that calling it runs nothing: return a list instead")


def _after_self(method: _Method) -> dict[str, inspect.Parameter]:
    """Return the parameters by name without self."""
    parameters = dict(method.signature.parameters)
    for parameter in parameters.values():
        if parameter.kind in _VARIADIC:
            method.refuse(_variadic(method, parameter))
    if not method.binds:
        return parameters
    first = next(iter(parameters.values()), None)
    if first is None or first.kind is inspect.Parameter.KEYWORD_ONLY or first.name in _HOMES:
        method.refuse("has no self as its first argument")
    del parameters[first.name]
    return parameters


def _variadic(method: _Method, parameter: inspect.Parameter) -> str:
    stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
    what = f"takes {stars}{parameter.name}, but arguments are passed by name and each must be written out"
    written = getattr(method.function, "__name__", method.rule.name)
    if written != method.rule.name:
        what += f" (a decorator put {written} in its place: give that @functools.wraps)"
    return what


def _refuse_arguments(method: _Method, parameters: dict[str, inspect.Parameter]) -> None:
    rule = method.rule
    valid = (*rule.required, *rule.optional)
    free = [name for name in valid if name not in parameters]
    for parameter in parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            method.refuse(
                f"takes {parameter.name} by position only, but arguments are passed by name: remove the `/`"
            )
        if parameter.name in valid or parameter.default is not parameter.empty:
            continue
        if parameter.name in rule.refused:
            method.refuse(f"takes {parameter.name}, but {rule.refused[parameter.name]}")
        method.refuse(_unknown(parameter.name, free, rule))
    missing = [name for name in rule.required if name not in parameters]
    if missing:
        method.refuse(f"lacks the argument{'s' if len(missing) > 1 else ''} {' and '.join(missing)}")


def _unknown(name: str, free: list[str], rule: Rule) -> str:
    what = f"takes {name}, which is not one of its arguments and has no default"
    home = _HOMES.get(name)
    if home and home != rule.name:
        keep = f" (keep it there as self.{name})" if home == "__init__" else ""
        return f"{what}: {name} is given to {home}{keep}"
    near = nearest(name, free) or next((valid for valid in free if name in valid), None)
    return f"{what} (did you mean {near!r}?)" if near else what


def _refuse_decorator(method: _Method, names: tuple[str, ...]) -> None:
    """Refuse a decorator that shows the method's signature but cannot be called by it."""
    if not hasattr(method.function, "__wrapped__"):
        return
    outer = inspect.signature(method.function, follow_wrapped=False)
    try:
        outer.bind(*([None] if method.binds else []), **dict.fromkeys(names))
    except TypeError as error:
        method.refuse(
            f"has a decorator that takes {outer}, which does not let the arguments through by name: {error}"
        )


def _plain(signature: inspect.Signature) -> str:
    """Write a signature without annotations and with ``…`` for defaults, which may be long."""

    class _Default:
        def __repr__(self) -> str:
            return "…"

    parameters = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else _Default())
        for p in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


def _place(module: ModuleType, cls: type, function: object) -> str:
    inner = inspect.unwrap(function) if callable(function) else function
    code = getattr(inner, "__code__", None)
    if code is None or code.co_filename.startswith("<"):  # a property, a dataclass's __init__
        return _class_place(module, cls)
    return f"{_shown(code.co_filename)}, line {code.co_firstlineno}"


def _class_place(module: ModuleType, cls: type) -> str:
    try:
        line = inspect.getsourcelines(cls)[1]
        return f"{_shown(inspect.getsourcefile(cls) or '')}, line {line}"
    except (OSError, TypeError):  # made by type(…), or its source is gone
        return _shown(module.__file__ or module.__name__)


def _shown(file: str) -> str:
    """Return the path as the user knows it: relative to the project, which is the working directory.

    The folder's links are resolved, as the working directory's are; the file's are not (a ConfigMap is made of them).
    """
    path = Path(file).parent.resolve() / Path(file).name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _class_hint(module: ModuleType) -> str:
    own = {n: v for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__}
    near = next((n for n, v in own.items() if hasattr(v, "handle_batch")), None) or nearest("Handler", own)
    if near:
        place = _class_place(module, own[near])
        return f" Did you mean to call it {near!r} ({place})? Rename it to Handler."
    if callable(getattr(module, "handle_batch", None)):
        return " handle_batch is a function of the module there: make it a method of that class."
    return f" Its classes are: {', '.join(sorted(own))}." if own else ""


def _method_hint(module: ModuleType, cls: type, rule: Rule) -> str:
    near = nearest(rule.name, [n for n in dir(cls) if not n.startswith("__")])
    if near:
        return f" Did you mean {near!r}? Rename it to {rule.name}."
    if callable(getattr(module, rule.name, None)):
        return f" {rule.name} is a function of the module there: indent it into the class."
    return ""
