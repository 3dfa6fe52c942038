"""The `tensorflow_client` of a handler: predictions over TF Serving's gRPC API, without TensorFlow.

One RPC a predict. What a model takes is read once per version, "latest" is resolved when the client is made (a job's
models don't change under it), and a server that is away is waited for, so that its restart burns no batch.

A client may be shared by threads. It does not survive a fork: make it in the process that uses it.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import Int64Value

from batchyard.api.errors import InvalidError, TransientError, nearest
from batchyard.serving import signatures, tensors, wire
from batchyard.serving.protos import metadata_pb2, model_pb2
from batchyard.serving.signatures import InvalidInput, PredictError, Signature, SignatureNotFound
from batchyard.serving.tensors import Array

__all__ = [
    "InvalidInput",
    "InvalidModel",
    "ModelNotFound",
    "PredictError",
    "PredictTimeout",
    "ServedModel",
    "ServerError",
    "ServingUnavailable",
    "SignatureNotFound",
    "TensorflowClient",
]

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"

_MAX_DEATHS = 5
"""Servers that may die under one predict before it counts as its fault: a batch that kills every server must end."""

_MAX_REQUEST = 2**31 - 2**20
"""Bytes of tensors in one request: a protobuf message ends at 2 GB, in the server too."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25
"""Seconds between tries while the server is away; with the channel's options below it is found again within 0.5 s."""

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 1000),  # how long one attempt to connect may take
    (
        "grpc.enable_http_proxy",
        0,
    ),  # the server is in the same pod or machine; a proxy in the environment is not for it
    ("grpc.enable_retries", 0),  # the loop below retries, and knows for how long
]

# What gRPC's C core says when a connection ends under a call: the server died, or was killed, while it worked on it.
_DIED = ("socket closed", "connection reset", "broken pipe", "recvmsg", "sendmsg", "goaway", "stream removed")


class ModelNotFound(PredictError):
    """No model is given among several, or the one given, or its version, is not served."""


class ServerError(PredictError):
    """The server refused a predict or failed at it. ``code``: gRPC's status name (INVALID_ARGUMENT, INTERNAL)."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class PredictTimeout(PredictError):
    """A predict took longer than ``rpc_timeout``."""


class InvalidModel(InvalidError):
    """A model can't be used as configured: no such signature, or the server doesn't hold it."""

    reason = "ModelInvalid"


class ServingUnavailable(TransientError):
    """The server stayed away for ``deadline`` seconds. Not the fault of the batch in hand."""


class ModelLike(Protocol):
    """What the client is told of one model: see ``ServedModel``."""

    @property
    def name(self) -> str: ...
    @property
    def versions(self) -> Sequence[int]: ...
    @property
    def signature_key(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model that the server holds. The highest of ``versions`` is ``latest``."""

    name: str
    versions: tuple[int, ...]
    signature_key: str | None = None


@dataclass(frozen=True, slots=True)
class _Ready:
    """All that is needed to predict with one model version."""

    where: str
    spec: bytes
    signature: Signature


class TensorflowClient:
    """Predicts with the job's models. Handlers get one as ``tensorflow_client``."""

    def __init__(
        self, target: str, models: Sequence[ModelLike], deadline: float = 300.0, rpc_timeout: float | None = None
    ) -> None:
        """Open a channel to ``target`` (``unix:/path`` or ``host:port``); nothing is sent yet.

        ``deadline``: seconds to wait for a server that is away. ``rpc_timeout``: seconds that one predict may run in
        the server, None for as long as it takes.
        """
        options = [*_OPTIONS, ("grpc.default_authority", "localhost")] if target.startswith("unix:") else _OPTIONS
        self._target = target
        self._versions = {model.name: tuple(sorted(model.versions)) for model in models}
        self._keys = {model.name: model.signature_key for model in models}
        self._deadline = deadline
        self._rpc_timeout = rpc_timeout
        self._ready: dict[tuple[str, int], _Ready] = {}
        self._pid = os.getpid()
        self._channel = grpc.insecure_channel(target, options=options)
        self._predict = self._channel.unary_unary(PREDICT)
        self._metadata = self._channel.unary_unary(METADATA)

    def predict(
        self, model_input: Mapping[str, Any], model_name: str | None = None, model_version: int | str = "latest"
    ) -> dict[str, Array]:
        """Return the model's outputs for one batch, each with its own dtype and shape.

        ``model_input``: input name to array, nested lists or scalar; values become the signature's dtype where none
        is lost. ``model_name`` may be left out when the job has one model. ``model_version``: ``"latest"``, a number
        or its digits. Strings come back as str; elements that aren't UTF-8 and outputs named ``…_bytes`` as bytes.

        Raises InvalidInput, ModelNotFound, SignatureNotFound, ServerError and PredictTimeout (all PredictError), and
        ServingUnavailable when the server stayed away for the whole deadline.
        """
        ready = self._prepare(model_name, model_version)
        arrays = signatures.fit(ready.signature, model_input, ready.where)
        inputs = {name: tensors.encode(array, ready.signature.inputs[name].dtype) for name, array in arrays.items()}
        size = sum(len(part) for parts in inputs.values() for part in parts)
        if size > _MAX_REQUEST:
            raise InvalidInput(
                f"{ready.where}: the batch has {size / 1e9:.1f} GB, and a request holds 2 GB: make batchSize smaller"
            )
        answer = self._call(self._predict, wire.write_request(ready.spec, inputs), ready.where, "predict")
        return _outputs(answer, ready.where)

    def signature(self, model_name: str | None = None, model_version: int | str = "latest") -> Signature:
        """Return what ``predict`` takes and gives back: dtype and shape by input and by output name.

        Raises ModelNotFound, SignatureNotFound, ServerError and ServingUnavailable, as ``predict`` does.
        """
        return self._prepare(model_name, model_version).signature

    def check(self) -> None:
        """Read the signatures of every model's latest version, waiting for the server as ``predict`` does.

        Raises InvalidModel when a model is not served or its signature can't be chosen; ServingUnavailable.
        """
        for name in self._versions:
            try:
                self._prepare(name, "latest")
            except (SignatureNotFound, ModelNotFound) as error:
                raise InvalidModel(str(error)) from error
            except ServerError as error:
                raise InvalidModel(f"{error} (asked for its signatures)") from error

    def close(self) -> None:
        """Close the channel; running predicts end as ServerError."""
        self._channel.close()

    def _resolve(self, name: str | None, version: int | str) -> tuple[str, int]:
        """Return the model and version number that the user means, without asking the server."""
        have = ", ".join(repr(known) for known in self._versions) or "none"
        if name is None:
            if len(self._versions) != 1:
                raise ModelNotFound(
                    f"no model_name given, and the job's models are {have}: say which one to predict with"
                )
            name = next(iter(self._versions))
        if name not in self._versions:
            near = nearest(str(name), self._versions)
            hint = f" Did you mean {near!r}?" if near else ""
            raise ModelNotFound(f"there is no model {name!r}; the job's models are {have}.{hint}")
        versions = self._versions[name]
        if version == "latest":
            return name, versions[-1]
        number = _number(version)
        if number not in versions:
            raise ModelNotFound(
                f"model {name!r} has no version {version!r}; "
                f"its versions are {', '.join(str(v) for v in versions)} and 'latest' ({versions[-1]})"
            )
        return name, number

    def _prepare(self, model_name: str | None, model_version: int | str) -> _Ready:
        """Return what is known of a model version, read from the server the first time.

        Without a lock: two threads may both ask, which is harmless, and none waits out another's deadline.
        """
        if os.getpid() != self._pid:
            raise PredictError(
                "this tensorflow_client was made before a fork and can't be used in the new process: predict in the "
                "handler's own process (threads are fine), or start processes with the 'spawn' method"
            )
        key = self._resolve(model_name, model_version)
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = self._read(*key)
        return ready

    def _read(self, name: str, version: int) -> _Ready:
        where = f"model {name!r} version {version}"
        spec = model_pb2.ModelSpec(name=name, version=Int64Value(value=version))
        request = metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        answer = self._call(self._metadata, request.SerializeToString(), where, "signatures")
        try:
            found = metadata_pb2.GetModelMetadataResponse.FromString(answer).metadata["signature_def"].value
            known = signatures.read(metadata_pb2.SignatureDefMap.FromString(found))
        except DecodeError as error:
            raise ServerError(
                f"{where}: the server's answer on its signatures can't be read: {error}", "DATA_LOSS"
            ) from error
        signature = signatures.choose(known, self._keys[name], where)
        spec.signature_name = signature.name
        return _Ready(where, spec.SerializeToString(), signature)

    def _call(self, method: Callable[..., bytes], request: bytes, where: str, what: str) -> bytes:
        """Send one RPC, again while the server is away, and return its answer."""
        away_since: float | None = None
        deaths, pause = 0, _FIRST_PAUSE
        while True:
            try:
                return method(request, timeout=self._rpc_timeout)
            except grpc.RpcError as error:
                code, words = error.code(), error.details() or ""
                if code != grpc.StatusCode.UNAVAILABLE:
                    raise self._failure(code, words, where, what) from error
            now = time.monotonic()
            if _died(words):
                deaths += 1
                away_since = now
                if deaths >= _MAX_DEATHS:
                    raise ServerError(
                        f"{where}: the model server died {deaths} times under this {what}: {words}", code.name
                    )
            elif away_since is None:
                away_since = now
            if now - away_since >= self._deadline:
                raise ServingUnavailable(
                    f"the model server at {self._target} has not answered for {self._deadline:g} seconds: {words}"
                )
            time.sleep(min(pause, max(0.0, away_since + self._deadline - now)))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _failure(self, code: grpc.StatusCode, words: str, where: str, what: str) -> PredictError:
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            limit = f" within {self._rpc_timeout:g} seconds" if self._rpc_timeout else ""
            return PredictTimeout(f"{where}: no answer to the {what}{limit}: {words}")
        if code == grpc.StatusCode.NOT_FOUND:
            return ModelNotFound(f"{where} is not loaded in the model server: {words}")
        return ServerError(f"{where}: the model server answered {code.name}: {words}", code.name)


def _number(version: int | str) -> int | None:
    if isinstance(version, bool):
        return None
    if isinstance(version, str):
        return int(version) if version.isascii() and version.isdigit() else None
    try:
        return version.__index__()  # NumPy's integers, too
    except AttributeError:
        return None


def _died(words: str) -> bool:
    lowered = words.lower()
    return not lowered.startswith("failed to connect") and any(sign in lowered for sign in _DIED)


def _outputs(answer: bytes, where: str) -> dict[str, Array]:
    name = ""
    try:
        found, _ = wire.read_response(answer)
        out = {}
        for name, tensor in found.items():
            out[name] = tensors.decode(tensor, text=not name.endswith("_bytes"))
    except ValueError as error:
        of = f"output {name!r}" if name else "the answer"
        raise ServerError(f"{where}: {of} can't be read: {error}", "DATA_LOSS") from error
    return out
