"""The answers of the server: bytes of a request in, bytes of the response out, in TF Serving's words and codes.

Knows no socket and no thread, so that every answer can be tested as a call. A signature call in TensorFlow checks
neither shapes nor ranks, so requests are checked against the signature here before they reach the graph.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode
from numpy.typing import NDArray

from batchyard.serving import tensors, wire
from batchyard.serving.protos import metadata_pb2, model_pb2, status_pb2
from batchyard.serving.server_lists import encode_lists
from batchyard.serving.server_models import ModelRunError, Models, RpcError

DEFAULT_SIGNATURE = "serving_default"
SIGNATURE_MAP_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_METADATA_FIELD = "signature_def"
M = TypeVar("M", bound=Message)
_CODES: dict[int, StatusCode] = {code.value[0]: code for code in StatusCode}


class ServingApi:
    """Predict, GetModelMetadata and GetModelStatus over loaded models; calls may run at the same time."""

    def __init__(self, models: Models, *, as_tensor_content: bool = True) -> None:
        """``as_tensor_content``: False answers in ``*_val`` lists, as TF Serving before 2.19 does."""
        self._models = models
        self._encode: Callable[[NDArray[Any]], wire.Parts] = tensors.encode if as_tensor_content else encode_lists

    def predict(self, request: bytes) -> bytes:
        """Return a PredictResponse for a PredictRequest. Raises RpcError."""
        try:
            raw_spec, raw_tensors, output_filter = wire.read_request(request)
            spec = model_pb2.ModelSpec.FromString(bytes(raw_spec))
        except (ValueError, DecodeError) as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"not a PredictRequest: {error}") from error
        if not raw_spec:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        version, model = self._models.find(spec)
        key = spec.signature_name or DEFAULT_SIGNATURE
        if key not in model.signatures:
            raise RpcError(StatusCode.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
        signature = model.signatures[key]
        check_names(signature, raw_tensors)
        outputs = outputs_wanted(signature, output_filter)
        inputs = {name: _decoded(name, raw) for name, raw in raw_tensors.items()}
        for name, value in signature.defaults.items():
            if name not in inputs:
                inputs[name] = tensors.decode_message(value, text=False)
        for name, array in inputs.items():
            check_tensor(name, signature.inputs[name], array)
        answer = _run(model.run, key, inputs, outputs)
        spec_of_answer = model_pb2.ModelSpec(name=spec.name, signature_name=key)
        spec_of_answer.version.value = version
        encoded = {name: self._encoded(name, array) for name, array in answer.items()}
        return wire.write_response(encoded, spec_of_answer.SerializeToString())

    def _encoded(self, name: str, array: NDArray[Any]) -> wire.Parts:
        try:
            return self._encode(array)
        except ValueError as error:  # quantized numbers and resources
            raise RpcError(StatusCode.UNIMPLEMENTED, f"output {name!r}: {error}") from error

    def metadata(self, data: bytes) -> bytes:
        """Return a GetModelMetadataResponse. Raises RpcError."""
        request = _parsed(metadata_pb2.GetModelMetadataRequest(), data)
        if not request.HasField("model_spec"):
            raise RpcError(StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        if not request.metadata_field:
            raise RpcError(
                StatusCode.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for name in request.metadata_field:
            if name != _METADATA_FIELD:
                raise RpcError(StatusCode.INVALID_ARGUMENT, f"Metadata field {name} is not supported")
        version, model = self._models.find(request.model_spec)
        signatures = metadata_pb2.SignatureDefMap(signature_def=model.signatures)
        response = metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        packed = any_pb2.Any(type_url=SIGNATURE_MAP_URL, value=signatures.SerializeToString())
        response.metadata[_METADATA_FIELD].CopyFrom(packed)
        return response.SerializeToString()

    def status(self, data: bytes) -> bytes:
        """Return a GetModelStatusResponse. Raises RpcError."""
        request = _parsed(status_pb2.GetModelStatusRequest(), data)
        response = status_pb2.GetModelStatusResponse()
        for version in self._models.versions(request.model_spec):
            status = response.model_version_status.add()
            status.version, status.state = version, status_pb2.ModelVersionStatus.AVAILABLE
            status.status.error_code = 0
        return response.SerializeToString()


def check_names(signature: metadata_pb2.SignatureDef, given: Iterable[str]) -> None:
    """Raise RpcError unless exactly the signature's inputs are given, those with defaults aside."""
    names, known = set(given), set(signature.inputs)
    missing, extra = known - names - set(signature.defaults), names - known
    if missing or len(names) > len(known):
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            f"input size does not match signature: {len(names)}!={len(known)} len({_set(names)}) != "
            f"len({_set(known)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}.",
        )
    if extra:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            f"input tensor alias not found in signature: {min(extra)}. "
            f"Inputs expected to be in the set {_set(known)}.",
        )


def outputs_wanted(signature: metadata_pb2.SignatureDef, output_filter: list[str]) -> list[str]:
    """Return the outputs a request asks for: all where it names none. Raises RpcError."""
    for name in output_filter:
        if name not in signature.outputs:
            raise RpcError(
                StatusCode.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_set(signature.outputs)}.",
            )
        if output_filter.count(name) > 1:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"duplicate output tensor alias: {name}")
    wanted = output_filter or sorted(signature.outputs)
    for name in wanted:
        _check_dense("output", name, signature.outputs[name])
    return wanted


def check_tensor(name: str, info: metadata_pb2.TensorInfo, array: NDArray[Any]) -> None:
    """Raise RpcError unless an array has the dtype, rank and sizes that the signature gives its input."""
    _check_dense("input", name, info)
    found, shape = tensors.data_type(array), info.tensor_shape
    sizes = None if shape.unknown_rank else [dim.size for dim in shape.dim]
    fits = sizes is None or (
        len(sizes) == array.ndim
        and all(wanted < 0 or wanted == size for wanted, size in zip(sizes, array.shape, strict=True))
    )
    if found == info.dtype and fits:
        return
    expected = "any shape" if sizes is None else f"shape [{', '.join('?' if s < 0 else str(s) for s in sizes)}]"
    raise RpcError(
        StatusCode.INVALID_ARGUMENT,
        f"input {name!r}: found {tensors.dtype_name(found)} of shape {list(array.shape)}, expected "
        f"{tensors.dtype_name(info.dtype)} of {expected}.",
    )


def _check_dense(kind: str, name: str, info: metadata_pb2.TensorInfo) -> None:
    if not info.name:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT, f"{kind} {name!r} is a sparse or ragged tensor, which Predict can't carry."
        )


def _run(
    run: Callable[..., dict[str, NDArray[Any]]], key: str, inputs: Mapping[str, NDArray[Any]], outputs: list[str]
) -> dict[str, NDArray[Any]]:
    try:
        return run(key, inputs, outputs)
    except ModelRunError as error:
        raise RpcError(_CODES.get(error.code, StatusCode.UNKNOWN), str(error)) from error


def _decoded(name: str, raw: memoryview) -> NDArray[Any]:
    try:
        return tensors.decode(raw, text=False)
    except ValueError as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"tensor parsing error: {name}: {error}") from error


def _parsed(message: M, data: bytes) -> M:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"not a {message.DESCRIPTOR.name}: {error}") from error
    return message


def _set(names: Iterable[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
