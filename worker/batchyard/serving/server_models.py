"""The models a server holds: loads them all, and finds the one that a request means in TF Serving's words."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grpc import StatusCode
from numpy.typing import NDArray

from batchyard.serving.protos import metadata_pb2, model_pb2
from batchyard.serving.server_model_config import ModelConfigError, ModelToServe

log = logging.getLogger(__name__)


class RpcError(Exception):
    """An answer that is an error: a gRPC status code and its words."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class ModelLoadError(Exception):
    """A SavedModel can't be loaded; the message says why, and which TensorFlow wrote it."""


class ModelRunError(Exception):
    """A call failed in the graph. ``code`` is TensorFlow's, which is gRPC's number of the same name."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class LoadedModel(Protocol):
    """What a server needs of a loaded version; ``savedmodel.SavedModel`` is one."""

    signatures: dict[str, metadata_pb2.SignatureDef]

    def run(
        self, signature_key: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], /
    ) -> dict[str, NDArray[Any]]:
        """Return the named outputs of a signature."""
        ...


@dataclass(frozen=True, slots=True)
class Models:
    """Loaded models by name and version, and the labels of their versions."""

    loaded: Mapping[str, Mapping[int, LoadedModel]]
    labels: Mapping[str, Mapping[str, int]]

    def find(self, spec: model_pb2.ModelSpec) -> tuple[int, LoadedModel]:
        """Return the version a ModelSpec means, the highest where it names none, and its model. Raises RpcError."""
        if not spec.name:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        version = self._version(spec)
        versions = self.loaded.get(spec.name, {})
        if version is None:
            if not versions:
                raise RpcError(StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
            version = max(versions)
        elif version not in versions:
            raise RpcError(StatusCode.NOT_FOUND, f"Servable not found for request: Specific({spec.name}, {version})")
        return version, versions[version]

    def versions(self, spec: model_pb2.ModelSpec) -> list[int]:
        """Return the versions a status request means, highest first as in TF Serving. Raises RpcError."""
        if not spec.name:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        found = sorted(self.loaded.get(spec.name, ()), reverse=True)
        if not found:
            raise RpcError(StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        version = self._version(spec)
        if version is None:
            return found
        if version not in found:
            raise RpcError(StatusCode.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
        return [version]

    def _version(self, spec: model_pb2.ModelSpec) -> int | None:
        if spec.HasField("version"):
            return spec.version.value
        if not spec.HasField("version_label"):
            return None
        labels = self.labels.get(spec.name, {})
        if spec.version_label not in labels:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}")
        return labels[spec.version_label]


def load_models(models: Sequence[ModelToServe], intra_op_threads: int, inter_op_threads: int) -> Models:
    """Load every version of every model, and only then return; TensorFlow is imported here.

    Raises ModelConfigError with a sentence for each version that failed: which, where and why.
    """
    try:
        from batchyard.serving.savedmodel import SavedModel
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise ModelConfigError("TensorFlow is not installed here: pip install 'batchyard[local]'.") from error

    loaded: dict[str, dict[int, LoadedModel]] = {}
    problems = []
    for model in models:
        loaded[model.name] = {}
        for version, folder in model.folders.items():
            began = time.monotonic()
            try:
                loaded[model.name][version] = SavedModel(
                    folder, intra_op_threads=intra_op_threads, inter_op_threads=inter_op_threads
                )
            except ModelLoadError as error:
                problems.append(f"model {model.name!r}, version {version} ({folder}): {error}")
            else:
                log.info("loaded %s version %d in %.1f s", model.name, version, time.monotonic() - began)
    if problems:
        raise ModelConfigError(*problems)
    return Models(loaded, {model.name: model.labels for model in models})
