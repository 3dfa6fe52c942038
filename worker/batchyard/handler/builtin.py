"""The handler of a job without ``handler.path``: each batch is one predict, its outputs are the results.

Apart because it is written as a user would write one: the worker treats it like any other ``Handler``. NumPy is
imported when an item has to be looked at, so that a worker with the user's own handler doesn't pay for it here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from batchyard.api.errors import BatchyardError, InvalidError, TransientError, nearest
from batchyard.handler.errors import HandlerInvalid

_CONFIG: dict[str, tuple[tuple[type, ...], str]] = {
    "inputs": ((dict,), "an object of input name to the items' field"),
    "model_name": ((str,), "a model's name"),
    "model_version": ((int, str), "a version number or latest"),
}


class Spec(Protocol):
    """What the model says of one input; ``str()`` gives it as ``float32[?, 28, 28]``."""

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """The shape, the batch's dimension included; None for an unknown size or rank."""
        ...


class Signature(Protocol):
    """What the model takes."""

    @property
    def inputs(self) -> Mapping[str, Spec]:
        """The inputs by name."""
        ...

    @property
    def optional(self) -> frozenset[str]:
        """Inputs that may be left out."""
        ...


class Client(Protocol):
    """The part of ``tensorflow_client`` that is used here."""

    def signature(self, model_name: str | None = None, model_version: str | int = "latest") -> Signature:
        """Return what a model takes."""
        ...

    def predict(
        self, model_input: Mapping[str, Any], model_name: str | None = None, model_version: str | int = "latest"
    ) -> dict[str, Any]:
        """Return the outputs by name, as arrays."""
        ...


class Handler:
    """Predicts each batch whole.

    An item is an object with a field for each of the model's inputs (other fields are left alone), or, for a model
    with one input, that input's value itself. ``config``, all optional: ``model_name`` and ``model_version`` as in
    ``predict``; ``inputs``, an object of input name to the items' field, where they are called differently.

    The result of an item is an object of output name to its part of the output. When an output's first dimension is
    not the number of items, the outputs are returned whole, once for the batch.
    """

    def __init__(self, tensorflow_client: Client, config: dict[str, Any]):
        """Ask the model for its inputs. Raises HandlerInvalid where ``config`` doesn't fit it."""
        _check_config(config)
        self._client = tensorflow_client
        self._model: dict[str, Any] = {k: config[k] for k in ("model_name", "model_version") if k in config}
        try:
            signature = tensorflow_client.signature(**self._model)
        except (TransientError, InvalidError):
            raise
        except BatchyardError as error:  # an unknown model or version; several models and none named
            raise HandlerInvalid(f"handler.config of the built-in handler: {error}") from error
        self._inputs = dict(signature.inputs)
        self._optional = signature.optional
        fields = config.get("inputs", {})
        for name in fields:
            if name not in self._inputs:
                near = nearest(name, self._inputs)
                raise HandlerInvalid(
                    f"handler.config.inputs: the model has no input {name!r}, it takes {self._takes()}."
                    + (f" Did you mean {near!r}?" if near else "")
                )
        self._fields = {name: fields.get(name, name) for name in self._inputs}

    def handle_batch(self, payload: list[Any]) -> list[dict[str, Any]] | dict[str, Any]:
        """Return an object of output name to value for each item, or one for the batch."""
        model_input = self._gather(payload)
        try:
            outputs = self._client.predict(model_input, **self._model)
        except TransientError:
            raise
        except BatchyardError as error:
            culprit = self._culprit(model_input)
            if culprit is None:
                raise
            raise ValueError(culprit) from error
        return _split(outputs, len(payload))

    def _gather(self, payload: list[Any]) -> dict[str, list[Any]]:
        """Return the values of each input, one an item."""
        if not any(isinstance(item, dict) for item in payload):
            if len(self._inputs) != 1:
                raise ValueError(
                    f"item 0 is {_kind(payload[0])}, expected an object with a field for each input: "
                    f"the model takes {self._takes()}"
                )
            return {next(iter(self._inputs)): payload}
        return {
            name: [self._value(position, item, name, field) for position, item in enumerate(payload)]
            for name, field in self._fields.items()
            if name not in self._optional or any(isinstance(item, dict) and field in item for item in payload)
        }

    def _value(self, position: int, item: Any, name: str, field: str) -> Any:
        if not isinstance(item, dict):
            raise ValueError(  # noqa: TRY004 - one error for a bad item
                f"item {position} is {_kind(item)}, others of the batch are objects: all items have one form"
            )
        if field in item:
            return item[field]
        has = ", ".join(repr(key) for key in list(item)[:10]) or "no fields"
        near = nearest(field, map(str, item))
        hint = f" Did you mean {near!r}?" if near else ""
        raise ValueError(
            f"item {position} has no field {field!r}, it has {has}; the model takes {self._takes()}.{hint} "
            f"A field of another name is set by handler.config.inputs: {{{name}: {near or '<field>'}}}."
        )

    def _culprit(self, model_input: Mapping[str, Sequence[Any]]) -> str | None:
        """Return which item doesn't fit, once a predict has been refused; None when no single item stands out."""
        for name, values in model_input.items():
            spec = self._inputs[name]
            text = str(spec).startswith("string")
            shape = spec.shape[1:] if spec.shape else None
            first = None
            for position, value in enumerate(values):
                found = _look(value)
                first = found if first is None else first
                expected = f"the model takes {name!r} as {spec}, the first dimension being the items"
                if found is None:
                    return f"item {position}: the lists of input {name!r} are ragged; {expected}"
                if found[0] != ("text" if text else "numbers"):
                    return f"item {position}: input {name!r} holds {found[0]}; {expected}"
                if shape is not None and not _fits(found[1], shape):
                    return f"item {position}: input {name!r} has the shape {list(found[1])}; {expected}"
                if first is not None and found[1] != first[1]:
                    return (
                        f"item {position}: input {name!r} has the shape {list(found[1])}, "
                        f"item 0 has {list(first[1])}: the items of a batch are predicted together"
                    )
        return None

    def _takes(self) -> str:
        return ", ".join(f"{name!r} {spec}" for name, spec in sorted(self._inputs.items())) or "no inputs"


def _check_config(config: dict[str, Any]) -> None:
    for name, value in config.items():
        if name not in _CONFIG:
            near = nearest(name, _CONFIG)
            raise HandlerInvalid(
                f"handler.config.{name}: the built-in handler does not know it, it knows {', '.join(_CONFIG)}."
                + (f" Did you mean {near!r}?" if near else "")
            )
        kinds, expected = _CONFIG[name]
        if not isinstance(value, kinds):
            raise HandlerInvalid(f"handler.config.{name}: found {_kind(value)}, expected {expected}.")
    for name, field in config.get("inputs", {}).items():
        if not isinstance(field, str):
            raise HandlerInvalid(f"handler.config.inputs.{name}: found {_kind(field)}, expected a field's name.")


def _split(outputs: dict[str, Any], items: int) -> list[dict[str, Any]] | dict[str, Any]:
    if not all(getattr(value, "ndim", 0) and value.shape[0] == items for value in outputs.values()):
        return outputs
    return [{name: value[i] for name, value in outputs.items()} for i in range(items)]


def _look(value: Any) -> tuple[str, tuple[int, ...]] | None:
    """Return what a value holds (``text``, ``numbers`` or what else) and its shape; None for ragged lists."""
    import numpy as np

    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind in "US":
        return "text" if _all_text(value) else "text among numbers", array.shape
    if array.dtype.kind == "O":
        odd = next((e for e in array.ravel().tolist() if not isinstance(e, int | float | str)), None)
        return _kind(odd), array.shape
    return "numbers", array.shape


def _all_text(value: Any) -> bool:
    return all(map(_all_text, value)) if isinstance(value, list) else isinstance(value, str)


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(w in (None, f) for f, w in zip(found, wanted, strict=True))


def _kind(value: Any) -> str:
    """Return what a JSON value is, in JSON's words."""
    names = {type(None): "null", bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
