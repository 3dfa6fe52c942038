"""What a model takes: its signatures, which one is used, and whether an input fits; apart because it is pure.

TensorFlow checks neither ranks nor static dimensions when a signature is called, and fails deep in the graph with
words about operations the user never wrote. So an input is checked here first, by both the client and the server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from batchyard.api.errors import BatchyardError, nearest
from batchyard.serving.protos import metadata_pb2, tensor_pb2
from batchyard.serving.tensors import Array, dtype_name, numpy_dtype

INIT_OP = "__saved_model_init_op"
"""TensorFlow's own entry among a SavedModel's signatures: it runs at load and predicts nothing."""

_PREFERRED = ("serving_default", "predict")


class PredictError(BatchyardError):
    """A predict that failed, and would fail again as it is."""


class InvalidInput(PredictError):
    """The model input doesn't fit the signature; the message names the input, what was found and what is expected."""


class SignatureNotFound(PredictError):
    """The model has no such signature, or several and none is chosen."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. ``shape``: None for an unknown dimension, and as a whole for an unknown rank.

    ``dtype``: a DataType. ``tensor``: the tensor's name in the graph (``serving_default_x:0``).
    """

    dtype: int
    shape: tuple[int | None, ...] | None
    tensor: str = ""

    def __str__(self) -> str:
        """Return it as a user reads it: ``float32[?, 224, 224, 3]``."""
        return dtype_name(self.dtype) + shape_text(self.shape)


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model. ``optional``: inputs that have a default and may be left out."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method: str = ""
    optional: frozenset[str] = field(default=frozenset())

    def inputs_text(self) -> str:
        """Return the inputs as a user reads them: ``'x' float32[?, 2], 'y' string[?]``."""
        return ", ".join(f"{name!r} {spec}" for name, spec in sorted(self.inputs.items())) or "no inputs"


def shape_text(shape: tuple[int | None, ...] | None) -> str:
    """Return a shape as ``[?, 3]``; ``[…]`` for an unknown rank."""
    if shape is None:
        return "[…]"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def read(signatures: metadata_pb2.SignatureDefMap) -> dict[str, Signature]:
    """Return a model's signatures by name, in the order of their names, TensorFlow's init op left out."""
    return {
        name: _signature(name, definition)
        for name, definition in sorted(signatures.signature_def.items())
        if name != INIT_OP
    }


def choose(signatures: Mapping[str, Signature], key: str | None, model: str) -> Signature:
    """Return the signature named ``key``; without a key the only one, else serving_default, else predict.

    Raises SignatureNotFound, naming ``model`` and listing what it has.
    """
    have = ", ".join(repr(name) for name in signatures) or "none"
    if key is not None:
        if key in signatures:
            return signatures[key]
        hint = _hint(key, signatures)
        raise SignatureNotFound(f"{model} has no signature {key!r}; its signatures are {have}.{hint}")
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    for name in _PREFERRED:
        if name in signatures:
            return signatures[name]
    if not signatures:
        raise SignatureNotFound(
            f"{model} has no signature to call: export it with one (tf.saved_model.save signatures=…)"
        )
    raise SignatureNotFound(f"{model} has several signatures ({have}): name one as signatureKey")


def fit(signature: Signature, model_input: Mapping[str, Any], where: str) -> dict[str, Array]:
    """Return the input as arrays of the signature's dtypes, each checked against its rank and static dimensions.

    Raises InvalidInput; ``where`` (the model and version) opens its message.
    """
    if not isinstance(model_input, Mapping):
        raise InvalidInput(
            f"{where}: the model input is a dict of input name to array, found {type(model_input).__name__}; "
            f"signature {signature.name!r} takes {signature.inputs_text()}"
        )
    for name in model_input:
        if name not in signature.inputs:
            raise InvalidInput(
                f"{where}: signature {signature.name!r} has no input {name!r}; it takes {signature.inputs_text()}."
                + _hint(str(name), signature.inputs)
            )
    missing = [repr(name) for name in signature.inputs if name not in model_input and name not in signature.optional]
    if missing:
        raise InvalidInput(
            f"{where}: missing input {', '.join(sorted(missing))}; "
            f"signature {signature.name!r} takes {signature.inputs_text()}"
        )
    out = {}
    for name, value in model_input.items():
        spec = signature.inputs[name]
        try:
            out[name] = _fit_one(value, spec)
        except _Unfit as unfit:
            raise InvalidInput(f"{where}: input {name!r}: {unfit}") from unfit.__cause__
    return out


def misfit(spec: TensorSpec, shape: tuple[int, ...]) -> str | None:
    """Return what is wrong with an array's shape in one clause, None when it fits."""
    if spec.shape is None:
        return None
    fits = len(shape) == len(spec.shape) and all(
        want is None or want == found for want, found in zip(spec.shape, shape, strict=True)
    )
    if fits:
        return None
    hint = ""
    if len(shape) == len(spec.shape) - 1 and misfit(TensorSpec(spec.dtype, spec.shape[1:]), shape) is None:
        hint = "; the first dimension is the batch: pass a list of items, not one item"
    return f"expected shape {shape_text(spec.shape)}, found {shape_text(shape)}{hint}"


class _Unfit(Exception):
    """Why one value doesn't fit; its words end an InvalidInput's message."""


def _signature(name: str, definition: metadata_pb2.SignatureDef) -> Signature:
    return Signature(
        name=name,
        inputs={key: _spec(info) for key, info in definition.inputs.items()},
        outputs={key: _spec(info) for key, info in definition.outputs.items()},
        method=definition.method_name,
        optional=frozenset(definition.defaults),
    )


def _spec(info: metadata_pb2.TensorInfo) -> TensorSpec:
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(dtype=info.dtype, shape=shape, tensor=info.name)


def _hint(name: str, valid: Mapping[str, Any]) -> str:
    near = nearest(name, valid)
    return f" Did you mean {near!r}?" if near else ""


def _fit_one(value: Any, spec: TensorSpec) -> Array:
    try:
        numpy_dtype(spec.dtype)
    except ValueError as error:
        raise _Unfit(str(error)) from error
    array = _strings(value) if spec.dtype == tensor_pb2.DT_STRING else _numbers(value, spec.dtype)
    problem = misfit(spec, array.shape)
    if problem:
        raise _Unfit(problem)
    if array.ndim and array.shape[0] == 0:
        raise _Unfit(f"the batch is empty (shape {shape_text(array.shape)}): predict at least one item")
    return array


def _strings(value: Any) -> Array:
    """Return an object array of str and bytes. Objects from the start: NumPy's own would cut trailing NULs."""
    try:
        array = np.asarray(value, dtype=object)
    except ValueError as error:
        raise _Unfit(f"the lists are ragged ({error}): every row needs the same length") from error
    for element in array.reshape(-1).tolist():
        if isinstance(element, list | tuple | np.ndarray):
            raise _Unfit("the lists are ragged: every row needs the same length")
        if not isinstance(element, str | bytes):
            raise _Unfit(f"expected str or bytes, found {_shown(element)}")
        if isinstance(element, str) and not element.isascii():
            try:
                element.encode()
            except UnicodeEncodeError as error:
                raise _Unfit(f"{_shown(element)} can't be written as UTF-8: {error.reason}") from error
    return array


def _numbers(value: Any, dtype: int) -> Array:
    wanted = numpy_dtype(dtype)
    try:
        array = np.asarray(value)
        if array.dtype == object:  # an object array of plain numbers (a pandas column) is as good as a list of them
            array = np.asarray(array.tolist())
    except (ValueError, TypeError, OverflowError) as error:
        raise _Unfit(f"can't become a {wanted.name} array: {_ragged(error)}") from error
    if array.dtype == wanted or array.size == 0:
        return array.astype(wanted, copy=False)
    if array.dtype == object:
        elements = array.reshape(-1).tolist()
        element = next((e for e in elements if not _is_number(e)), elements[0])
        raise _Unfit(f"expected {wanted.name}, found {_shown(element)}")
    return _cast(array, wanted)


def _cast(array: Array, wanted: np.dtype[Any]) -> Array:
    """Return ``array`` as ``wanted`` where no value changes but by rounding; the rest is refused, with the value."""
    found, kind = _kind(array.dtype), _kind(wanted)
    order = "?iufc"
    if found == "":
        raise _Unfit(f"expected {wanted.name}, found {_shown(array.reshape(-1)[0].item())}")
    if kind in "iu?" and found in "iu":
        low, high = (0, 1) if kind == "?" else (int(np.iinfo(wanted).min), int(np.iinfo(wanted).max))
        for extreme in (int(array.min()), int(array.max())):
            if not low <= extreme <= high:
                raise _Unfit(f"{extreme} is out of range for {wanted.name} ({low} to {high})")
        return array.astype(wanted)
    if order.index(found) > order.index(kind):
        raise _Unfit(
            f"expected {wanted.name}, found {array.dtype.name}: the cast would lose information; "
            f"if that is meant, write .astype({wanted.name!r}) yourself"
        )
    with np.errstate(over="ignore"):
        out = array.astype(wanted)
    if found in "fc" or wanted.itemsize < 4:
        lost = np.isfinite(array) & ~np.isfinite(out)
        if lost.any():
            raise _Unfit(f"{array[lost].reshape(-1)[0]} is out of range for {wanted.name}")
    return out


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype == ml_dtypes.bfloat16:
        return "f"
    return {"b": "?", "i": "i", "u": "u", "f": "f", "c": "c"}.get(dtype.kind, "")


def _is_number(element: Any) -> bool:
    return isinstance(element, int | float | complex | np.number | np.bool_) and not (
        isinstance(element, int) and not -(2**63) <= element < 2**64
    )


def _ragged(error: Exception) -> str:
    if "inhomogeneous" in str(error):
        return "the lists are ragged, every row needs the same length"
    return str(error)


def _shown(element: Any) -> str:
    text = repr(element)
    return f"{type(element).__name__} {text if len(text) <= 60 else text[:57] + '…'}"
