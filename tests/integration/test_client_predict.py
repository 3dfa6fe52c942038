"""The handler's client against a gRPC server that speaks with the official classes, as TF Serving does."""

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from batchyard.api.errors import InvalidError, TransientError
from batchyard.serving.client import (
    InvalidInput,
    InvalidModel,
    ModelNotFound,
    PredictError,
    PredictTimeout,
    ServedModel,
    ServerError,
    ServingUnavailable,
    SignatureNotFound,
    TensorflowClient,
)

pytestmark = pytest.mark.tensorflow

MISSING = "needs TensorFlow and tensorflow-serving-api: make setup"
tensor_pb2 = pytest.importorskip("tensorflow.core.framework.tensor_pb2", reason=MISSING)
types_pb2 = pytest.importorskip("tensorflow.core.framework.types_pb2", reason=MISSING)
get_model_metadata_pb2 = pytest.importorskip("tensorflow_serving.apis.get_model_metadata_pb2", reason=MISSING)
predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason=MISSING)
service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc", reason=MISSING)

Tensors = dict[str, Any]


class Server(service.PredictionServiceServicer):
    """Answers with the official classes; what Predict does is a function from inputs to outputs."""

    def __init__(self) -> None:
        self.signatures: dict[str, Any] = {}
        self.run: Callable[[Tensors], Tensors] = lambda inputs: inputs
        self.requests: list[Any] = []
        self.calls: list[str] = []

    def add(self, model: str, signature: str = "serving_default", **inputs: tuple[int, list[int]]) -> None:
        signatures = self.signatures.setdefault(model, get_model_metadata_pb2.SignatureDefMap())
        for name, (dtype, shape) in inputs.items():
            info = signatures.signature_def[signature].inputs[name]
            info.dtype = dtype
            for size in shape:
                info.tensor_shape.dim.add(size=size)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        self.calls.append("GetModelMetadata")
        model = request.model_spec.name
        if model not in self.signatures:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({model}, 1)")
        answer = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        answer.metadata["signature_def"].Pack(self.signatures[model])
        return answer

    def Predict(self, request: Any, context: Any) -> Any:
        self.calls.append("Predict")
        self.requests.append(request)
        try:
            outputs = self.run(dict(request.inputs))
        except grpc.RpcError as refusal:
            context.abort(*refusal.args)
        return predict_pb2.PredictResponse(outputs=outputs, model_spec=request.model_spec)


def refuse(code: grpc.StatusCode, words: str) -> Callable[[Tensors], Tensors]:
    def run(inputs: Tensors) -> Tensors:
        raise grpc.RpcError(code, words)

    return run


@pytest.fixture
def server() -> Server:
    server = Server()
    server.add("m", x=(types_pb2.DT_FLOAT, [-1, 2]))
    return server


@pytest.fixture(params=["unix socket", "tcp"])
def target(server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    address = f"unix:{tmp_path}/s.sock" if request.param == "unix socket" else "127.0.0.1:0"
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    listening = grpc.server(ThreadPoolExecutor(8), options=options)
    service.add_PredictionServiceServicer_to_server(server, listening)
    port = listening.add_insecure_port(address)
    listening.start()
    yield address if request.param == "unix socket" else f"127.0.0.1:{port}"
    listening.stop(None).wait()


@pytest.fixture
def client(target: str) -> Iterator[TensorflowClient]:
    client = TensorflowClient(target, [ServedModel("m", (2, 10, 9))], deadline=5)
    yield client
    client.close()


X = {"x": [[1, 2], [3, 4]]}


# --- what goes over the wire ---


def test_a_predict_is_one_rpc_with_the_version_and_signature_pinned(client: TensorflowClient, server: Server) -> None:
    for _ in range(3):
        np.testing.assert_array_equal(client.predict(X)["x"], np.array([[1, 2], [3, 4]], np.float32))
    assert server.calls == ["GetModelMetadata", "Predict", "Predict", "Predict"]
    spec = server.requests[0].model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 10, "serving_default")
    assert server.requests[0].inputs["x"].tensor_content == np.array([1, 2, 3, 4], np.float32).tobytes()


@pytest.mark.parametrize(
    ("version", "number"),
    [("latest", 10), (2, 2), ("9", 9), (np.int64(9), 9)],
    ids=["latest", "number", "digits", "numpy"],
)
def test_the_version_may_be_latest_a_number_or_digits(
    client: TensorflowClient, server: Server, version: Any, number: int
) -> None:
    client.predict(X, model_version=version)
    client.predict(X, "m", version)
    assert [r.model_spec.version.value for r in server.requests] == [number, number]
    assert server.calls.count("GetModelMetadata") == 1


def test_each_version_has_its_own_signatures(client: TensorflowClient, server: Server) -> None:
    client.predict(X, model_version=2)
    server.signatures.clear()
    server.add("m", words=(types_pb2.DT_STRING, [-1]))
    assert client.predict({"words": ["a"]}, model_version=9)["words"].tolist() == ["a"]
    client.predict(X, model_version=2)


def test_text_comes_back_as_str_but_for_names_ending_in_bytes(client: TensorflowClient, server: Server) -> None:
    server.signatures.clear()
    server.add("m", words=(types_pb2.DT_STRING, [-1]))
    server.run = lambda inputs: {"words": inputs["words"], "words_bytes": inputs["words"]}
    out = client.predict({"words": ["日本", b"\xff"]})
    assert out["words"].tolist() == ["日本", b"\xff"]
    assert out["words_bytes"].tolist() == ["日本".encode(), b"\xff"]


def test_an_answer_in_lists_is_read(client: TensorflowClient, server: Server) -> None:
    import tensorflow as tf

    values = np.array([[1.5, float("nan")]], np.float32)
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=values.reshape(-1))
    proto.tensor_shape.CopyFrom(tf.TensorShape(values.shape).as_proto())
    server.run = lambda inputs: {"y": proto, "none": tf.make_tensor_proto([], tf.int64)}
    out = client.predict(X)
    np.testing.assert_array_equal(out["y"], values)
    assert (out["none"].dtype, out["none"].shape) == (np.int64, (0,))


def test_tensors_of_many_megabytes_pass_both_ways(client: TensorflowClient) -> None:
    big = np.arange(10_000_000, dtype=np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(client.predict({"x": big})["x"], big)


def test_threads_share_a_client(client: TensorflowClient) -> None:
    meet = threading.Barrier(8)

    def many(thread: int) -> bool:
        meet.wait()
        return all(client.predict({"x": [[thread, n]]})["x"].tolist() == [[thread, n]] for n in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(many, range(8)))


# --- what the user did wrong ---


@pytest.fixture
def several(target: str, server: Server) -> Iterator[TensorflowClient]:
    server.add("digits", "embed", x=(types_pb2.DT_FLOAT, [-1, 2]))
    server.add("digits", "rank", x=(types_pb2.DT_FLOAT, [-1, 2]))
    models = [ServedModel("m", (1,)), ServedModel("digits", (1, 3), "rank"), ServedModel("gone", (1,))]
    client = TensorflowClient(target, models, deadline=5)
    yield client
    client.close()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(
            (X,),
            ModelNotFound,
            "no model_name given, and the job's models are 'm', 'digits', 'gone': say which one to predict with",
            id="no model among several",
        ),
        pytest.param(
            (X, "digit"),
            ModelNotFound,
            "there is no model 'digit'; the job's models are 'm', 'digits', 'gone'. Did you mean 'digits'?",
            id="unknown model",
        ),
        pytest.param(
            (X, "digits", 2),
            ModelNotFound,
            "model 'digits' has no version 2; its versions are 1, 3 and 'latest' (3)",
            id="unknown version",
        ),
        pytest.param((X, "digits", "newest"), ModelNotFound, "has no version 'newest'; its versions", id="no number"),
        pytest.param((X, "digits", True), ModelNotFound, "has no version True", id="a bool for a version"),
        pytest.param((X, "digits", 3.0), ModelNotFound, "has no version 3.0", id="a float for a version"),
        pytest.param((X, "digits", None), ModelNotFound, "has no version None", id="None for a version"),
        pytest.param(
            ({"y": [[1, 2]]}, "m"),
            InvalidInput,
            "model 'm' version 1: signature 'serving_default' has no",
            id="input",
        ),
        pytest.param(({"x": np.zeros((0, 2))}, "m"), InvalidInput, "the batch is empty", id="empty batch"),
        pytest.param(
            (X, "gone"),
            ModelNotFound,
            "model 'gone' version 1 is not loaded in the model server: Servable not found for request",
            id="a model that the server lost",
        ),
    ],
)
def test_a_mistake_is_told_without_a_predict(
    several: TensorflowClient, server: Server, arguments: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        several.predict(*arguments)
    assert message in str(caught.value)
    assert isinstance(caught.value, PredictError)
    assert not isinstance(caught.value, InvalidError | TransientError)  # it costs the attempt, not the job
    assert "Predict" not in server.calls


def test_a_batch_beyond_what_a_request_holds_is_refused(client: TensorflowClient, server: Server) -> None:
    server.signatures.clear()
    server.add("m", x=(types_pb2.DT_UINT8, [-1, 1024]))
    huge = np.broadcast_to(np.zeros(1, np.uint8), (2**21, 1024))
    lazily_zero = np.zeros(huge.shape, np.uint8)  # never written, so it takes no memory
    with pytest.raises(
        InvalidInput, match=r"the batch has 2\.1 GB, and a request holds 2 GB: make batchSize smaller"
    ):
        client.predict({"x": lazily_zero})


def test_the_chosen_signature_is_the_configured_one(several: TensorflowClient, server: Server) -> None:
    several.predict(X, "digits")
    assert server.requests[0].model_spec.signature_name == "rank"


def test_the_signature_can_be_asked_for_and_costs_no_further_rpc(several: TensorflowClient, server: Server) -> None:
    signature = several.signature("digits", "3")
    assert signature.name == "rank"
    assert {name: str(spec) for name, spec in signature.inputs.items()} == {"x": "float32[?, 2]"}
    several.predict(X, "digits")
    assert server.calls == ["GetModelMetadata", "Predict"]
    with pytest.raises(ModelNotFound, match="Did you mean 'digits'"):
        several.signature("digit")


def test_a_version_without_the_signature_says_so(client: TensorflowClient, server: Server) -> None:
    server.signatures.clear()
    server.add("m", "a", x=(types_pb2.DT_FLOAT, [-1, 2]))
    server.add("m", "b", x=(types_pb2.DT_FLOAT, [-1, 2]))
    with pytest.raises(SignatureNotFound, match=r"model 'm' version 9 has several signatures \('a', 'b'\)"):
        client.predict(X, model_version=9)


# --- check ---


def test_check_reads_the_latest_version_of_every_model(several: TensorflowClient, server: Server) -> None:
    server.add("gone", x=(types_pb2.DT_FLOAT, [-1, 2]))
    several.check()
    assert server.calls == ["GetModelMetadata"] * 3
    several.predict(X, "digits")
    assert server.calls[3:] == ["Predict"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(
            ServedModel("gone", (4,)), "model 'gone' version 4 is not loaded in the model server", id="not served"
        ),
        pytest.param(
            ServedModel("m", (1,), "predcit"),
            "model 'm' version 1 has no signature 'predcit'",
            id="no such signature",
        ),
    ],
)
def test_check_refuses_a_model_that_cannot_be_used(target: str, model: ServedModel, message: str) -> None:
    client = TensorflowClient(target, [ServedModel("m", (1,)), model], deadline=5)
    with pytest.raises(InvalidModel) as caught:
        client.check()
    assert message in str(caught.value)
    assert caught.value.reason == "ModelInvalid"
    client.close()


# --- what the server says ---


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        pytest.param(
            grpc.StatusCode.INVALID_ARGUMENT,
            ServerError,
            "model 'm' version 10: the model server answered INVALID_ARGUMENT: words of its own",
            id="refused",
        ),
        pytest.param(grpc.StatusCode.INTERNAL, ServerError, "answered INTERNAL: words of its own", id="internal"),
        pytest.param(grpc.StatusCode.RESOURCE_EXHAUSTED, ServerError, "answered RESOURCE_EXHAUSTED", id="memory"),
        pytest.param(grpc.StatusCode.NOT_FOUND, ModelNotFound, "is not loaded in the model server: words", id="lost"),
        pytest.param(grpc.StatusCode.DEADLINE_EXCEEDED, PredictTimeout, "no answer to the predict", id="its timeout"),
    ],
)
def test_a_refusal_carries_the_servers_words(
    client: TensorflowClient, server: Server, code: grpc.StatusCode, error: type[Exception], message: str
) -> None:
    server.run = refuse(code, "words of its own")
    with pytest.raises(error) as caught:
        client.predict(X)
    assert message in str(caught.value)
    assert server.calls.count("Predict") == 1  # not again: it would fail again


def test_an_answer_that_cannot_be_read_names_the_output(client: TensorflowClient, server: Server) -> None:
    server.run = lambda inputs: {"y": tensor_pb2.TensorProto(dtype=types_pb2.DT_RESOURCE)}
    with pytest.raises(ServerError, match=r"model 'm' version 10: output 'y' can't be read: tensors of type DT_RES"):
        client.predict(X)


def test_a_predict_that_takes_too_long_is_a_timeout(target: str, server: Server) -> None:
    release = threading.Event()

    def slow(inputs: Tensors) -> Tensors:
        release.wait(60)
        return inputs

    server.run = slow
    client = TensorflowClient(target, [ServedModel("m", (1,))], rpc_timeout=0.3)
    with pytest.raises(PredictTimeout, match=r"model 'm' version 1: no answer to the predict within 0\.3 seconds"):
        client.predict(X)
    release.set()
    client.close()


def test_a_server_that_is_full_is_tried_again(client: TensorflowClient, server: Server) -> None:
    left = [3]

    def run(inputs: Tensors) -> Tensors:
        left[0] -= 1
        if left[0] >= 0:
            raise grpc.RpcError(grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue is full")
        return inputs

    server.run = run
    assert client.predict(X)["x"].shape == (2, 2)
    assert server.calls.count("Predict") == 4


def test_errors_pass_between_processes() -> None:
    for error in (ServerError("words", "INTERNAL"), ServingUnavailable("words"), InvalidInput("words")):
        found = pickle.loads(pickle.dumps(error))
        assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


def test_a_client_is_refused_after_a_fork(tmp_path: Path) -> None:
    program = f"""
import os
from batchyard.serving.client import ServedModel, TensorflowClient
client = TensorflowClient("unix:{tmp_path}/none.sock", [ServedModel("m", (1,))], deadline=0.1)
pid = os.fork()
if pid:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
client.predict({{"x": [1]}})
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "PredictError: this tensorflow_client was made before a fork" in ended.stderr
