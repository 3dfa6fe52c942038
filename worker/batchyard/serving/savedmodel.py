"""Runs a SavedModel with TensorFlow: the only module that imports it, so that nothing else pays for it.

A SavedModel is loaded as TF Serving loads it: its graph into a session, the variables restored by the graph's own
restore operation where ``variables.index`` exists, then the graph's init operation. This takes exports of TF 1 and
TF 2 alike, folders of constants without ``variables/``, and lookup tables, which ``tf.saved_model.load`` does not
all take; and a call costs no more (measured: the same on MobileNetV2, a quarter less on a one-layer model).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# what TensorFlow reads when it is imported: its own C++ chatter off, unless the user asks for it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from batchyard.serving.protos import metadata_pb2
from batchyard.serving.server_models import ModelLoadError, ModelRunError

VERSION: str = tf.__version__
"""The TensorFlow that runs the models."""

_INIT_OP = "__saved_model_init_op"
_TAG = "serve"
_MAX_MESSAGE = 4000  # gRPC sends an error's words as a header, and 8 KB of headers is the usual limit


class SavedModel:
    """One loaded SavedModel; ``run`` may be called by several threads at once.

    ``signatures``: by key, with the names of tensors, dtypes and shapes; the init operation's is left out.
    """

    def __init__(self, folder: Path, *, intra_op_threads: int = 0, inter_op_threads: int = 0) -> None:
        """Load ``folder``; 0 threads leaves the number to TensorFlow. Raises ModelLoadError."""
        meta_graph = _meta_graph(folder)
        try:
            self._session, self._graph = _loaded(meta_graph, folder, intra_op_threads, inter_op_threads)
        except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
            raise ModelLoadError(f"{_first_line(_words(error))}{_saved_by(meta_graph)}") from error
        self.signatures: dict[str, metadata_pb2.SignatureDef] = {
            key: metadata_pb2.SignatureDef.FromString(signature.SerializeToString())
            for key, signature in meta_graph.signature_def.items()
            if key != _INIT_OP
        }
        self._refuse_lost_variables(meta_graph)

    def _refuse_lost_variables(self, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
        """Raise ModelLoadError when a signature reads a variable that the folder's checkpoint did not bring back.

        Every predict would fail, here as in TF Serving, which restores by the same operation. Only exports of TF 2
        are judged: they know no other way to fill a variable.
        """
        if not meta_graph.HasField("object_graph_def"):
            return
        for key, signature in self.signatures.items():
            outputs = [
                self._graph.get_tensor_by_name(each.name).op for each in signature.outputs.values() if each.name
            ]
            handles = [op.outputs[0] for op in _ancestors(outputs) if op.type == "VarHandleOp"]
            with self._graph.as_default():
                checks = [tf.raw_ops.VarIsInitializedOp(resource=handle) for handle in handles]
            for handle, stands in zip(handles, self._session.run(checks), strict=True):
                if not stands:
                    raise ModelLoadError(
                        f"signature {key!r} reads the variable {handle.op.name!r}, which variables/ does not bring "
                        f"back: export a Keras model by model.export(path).{_saved_by(meta_graph)}"
                    )

    def run(
        self, signature_key: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Return the named outputs of a signature; only what they need is computed.

        Arrays carry the signature's dtypes; strings are object arrays of bytes, both ways. Raises ModelRunError.
        """
        signature = self.signatures[signature_key]
        tensors = self._graph.get_tensor_by_name
        try:
            fetches = [tensors(signature.outputs[name].name) for name in outputs]
            feeds = {tensors(signature.inputs[name].name): array for name, array in inputs.items()}
            values = self._session.run(fetches, feeds)
        except tf.errors.OpError as error:
            raise ModelRunError(error.error_code, _words(error)) from error
        except (ValueError, TypeError, KeyError) as error:  # a value that its tensor can't take
            raise ModelRunError(tf.errors.INVALID_ARGUMENT, _words(error)) from error
        except MemoryError as error:
            raise ModelRunError(tf.errors.RESOURCE_EXHAUSTED, "out of memory") from error
        return {
            name: np.asarray(value, dtype=fetch.dtype.as_numpy_dtype)
            for name, fetch, value in zip(outputs, fetches, values, strict=True)
        }

    def close(self) -> None:
        """Give the session's memory back; no call may be running."""
        self._session.close()


def _meta_graph(folder: Path) -> meta_graph_pb2.MetaGraphDef:
    """Return the graph tagged ``serve`` of a SavedModel."""
    saved_model = saved_model_pb2.SavedModel()
    binary, text = folder / "saved_model.pb", folder / "saved_model.pbtxt"
    try:
        if binary.exists():
            saved_model.ParseFromString(binary.read_bytes())
        else:
            text_format.Parse(text.read_text(encoding="utf-8"), saved_model)
    except FileNotFoundError as error:
        raise ModelLoadError(f"there is no saved_model.pb in {folder}.") from error
    except OSError as error:
        raise ModelLoadError(f"{error.filename} can't be read: {error.strerror}.") from error
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        file = binary.name if binary.exists() else text.name
        raise ModelLoadError(
            f"{file} is damaged or no SavedModel ({_first_line(str(error)).rstrip('.')})."
        ) from error
    for meta_graph in saved_model.meta_graphs:
        if _TAG in meta_graph.meta_info_def.tags:
            return meta_graph
    tags = sorted({tag for meta_graph in saved_model.meta_graphs for tag in meta_graph.meta_info_def.tags})
    if not saved_model.meta_graphs:
        raise ModelLoadError("saved_model.pb is damaged or no SavedModel: it holds no graph.")
    raise ModelLoadError(f"no graph of it is tagged {_TAG!r} (tags found: {', '.join(tags) or 'none'}).")


def _loaded(
    meta_graph: meta_graph_pb2.MetaGraphDef, folder: Path, intra_op_threads: int, inter_op_threads: int
) -> tuple[Any, Any]:
    """Return a session with variables restored and tables filled, and its graph."""
    graph = tf.Graph()
    with graph.as_default():
        # the list of ops lets attributes unknown to an older TensorFlow go where they hold their default
        tf.graph_util.import_graph_def(
            meta_graph.graph_def, name="", producer_op_list=meta_graph.meta_info_def.stripped_op_list
        )
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=intra_op_threads,
        inter_op_parallelism_threads=inter_op_threads,
        allow_soft_placement=True,
    )
    session = tf.compat.v1.Session(graph=graph, config=config)
    assets = _assets(meta_graph, folder)
    variables = folder / "variables" / "variables"
    if meta_graph.HasField("saver_def") and variables.with_suffix(".index").exists():
        saver = meta_graph.saver_def
        operation = graph.get_operation_by_name(saver.restore_op_name.partition(":")[0])
        session.run(operation, {saver.filename_tensor_name: os.fspath(variables), **assets})
    init = _init_operation(meta_graph)
    if init:
        session.run(graph.get_operation_by_name(init.partition(":")[0]), assets)
    return session, graph


def _ancestors(operations: Sequence[Any]) -> list[Any]:
    """Return the operations and everything they depend on."""
    todo, seen = list(operations), set()
    while todo:
        operation = todo.pop()
        if operation not in seen:
            seen.add(operation)
            todo += [tensor.op for tensor in operation.inputs]
            todo += operation.control_inputs
    return sorted(seen, key=lambda each: str(each.name))


def _assets(meta_graph: meta_graph_pb2.MetaGraphDef, folder: Path) -> dict[str, str]:
    """Return what to feed so that the graph finds its vocabularies in this folder: tensor name to path."""
    definitions = list(meta_graph.asset_file_def)
    if not definitions and "saved_model_assets" in meta_graph.collection_def:  # TF 1
        for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
            definition = meta_graph_pb2.AssetFileDef()
            packed.Unpack(definition)
            definitions.append(definition)
    return {each.tensor_info.name: os.fspath(folder / "assets" / each.filename) for each in definitions}


def _init_operation(meta_graph: meta_graph_pb2.MetaGraphDef) -> str:
    if _INIT_OP in meta_graph.signature_def:
        return str(meta_graph.signature_def[_INIT_OP].outputs[_INIT_OP].name)
    for collection in ("saved_model_main_op", "legacy_init_op"):  # TF 1
        nodes = (
            meta_graph.collection_def[collection].node_list.value if collection in meta_graph.collection_def else ()
        )
        if nodes:
            return str(nodes[0])
    return ""


def _saved_by(meta_graph: meta_graph_pb2.MetaGraphDef) -> str:
    """Return a sentence on the TensorFlow that wrote the model, empty when it doesn't say."""
    theirs = meta_graph.meta_info_def.tensorflow_version
    if not theirs:
        return ""
    order = _release(theirs), _release(VERSION)
    if order[0] == order[1]:
        return f" It was saved with TensorFlow {theirs}, as this server's."
    relation = "newer" if order[0] > order[1] else "older"
    return f" It was saved with TensorFlow {theirs}, {relation} than this server's {VERSION}."


def _release(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2] if part.isdigit()]


def _first_line(message: str) -> str:
    """Return the first sentence or line of an error as a sentence."""
    line = next((line.strip() for line in message.splitlines() if line.strip()), "no reason given")
    return f"{line.partition('. ')[0].rstrip('.')[:500]}."


def _words(error: Exception) -> str:
    """Return what the runtime said, short enough for gRPC.

    A session adds the Python lines that built the graph and raises again; the words it caught are the runtime's own,
    which TF Serving answers with.
    """
    caught = error.__context__
    if isinstance(error, tf.errors.OpError):
        said = caught.message if isinstance(caught, tf.errors.OpError) else error.message
    else:
        said = str(error)
    return str(said)[:_MAX_MESSAGE]
