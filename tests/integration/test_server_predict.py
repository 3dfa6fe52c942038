"""The server's answers, asked by TF Serving's official client classes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api (pip install --no-deps)")

from tensorflow.core.framework.tensor_pb2 import TensorProto  # noqa: E402 - after the skips
from tensorflow_serving.apis import (  # noqa: E402 - after the skips
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MODELS = (
    "half_plus",
    "shapes",
    "strings",
    "echo",
    "lookup",
    "named",
    "constants",
    "keras",
    "tf1",
    "meeting",
    "sparse",
)

ARRAYS = {
    "float16": np.array([[0.5, -2], [65504, np.inf]], np.float16),
    "float32": np.array([[0.1, -2], [np.nan, np.inf]], np.float32),
    "float64": np.array([[0.1, -2], [np.nan, 1e300]], np.float64),
    "bfloat16": np.array([[0.5, -2], [1e30, np.inf]], ml_dtypes.bfloat16),
    "int8": np.array([[-128, 127], [0, 1]], np.int8),
    "int16": np.array([[-(2**15), 2**15 - 1], [0, 1]], np.int16),
    "int32": np.array([[-(2**31), 2**31 - 1], [0, 1]], np.int32),
    "int64": np.array([[-(2**63), 2**63 - 1], [0, 1]], np.int64),
    "uint8": np.array([[0, 255], [7, 1]], np.uint8),
    "uint16": np.array([[0, 2**16 - 1], [7, 1]], np.uint16),
    "uint32": np.array([[0, 2**32 - 1], [7, 1]], np.uint32),
    "uint64": np.array([[0, 2**64 - 1], [7, 1]], np.uint64),
    "bool": np.array([[True, False], [False, True]]),
    "complex64": np.array([[1 + 2j, -0.5j], [0, 3]], np.complex64),
    "complex128": np.array([[1 + 2j, -0.5j], [0, 3]], np.complex128),
    "string": np.array([[b"", b"caf\xc3\xa9"], [b"\xff\x00", b"a" * 300]], object),
}
LISTS: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "float16": ("half_val", lambda a: a.view(np.uint16).tolist()),
    "bfloat16": ("half_val", lambda a: a.view(np.uint16).tolist()),
    "float32": ("float_val", lambda a: a.tolist()),
    "float64": ("double_val", lambda a: a.tolist()),
    "int64": ("int64_val", lambda a: a.tolist()),
    "uint32": ("uint32_val", lambda a: a.tolist()),
    "uint64": ("uint64_val", lambda a: a.tolist()),
    "bool": ("bool_val", lambda a: a.tolist()),
    "complex64": ("scomplex_val", lambda a: a.view(np.float32).tolist()),
    "complex128": ("dcomplex_val", lambda a: a.view(np.float64).tolist()),
    "string": ("string_val", lambda a: a.tolist()),
}


def as_lists(array: np.ndarray, dtype: str, keep: int | None = None) -> Any:
    """The official TensorProto with values in the dtype's list, the first `keep` of them."""
    proto = TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum)
    proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    field, values = LISTS.get(dtype, ("int_val", lambda a: a.tolist()))
    getattr(proto, field).extend(values(array.reshape(-1)[:keep]))
    return proto


class Client:
    """What a user of TF Serving writes, in short."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(
        self,
        model: str,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        outputs: tuple[str, ...] = (),
        **inputs: Any,
    ) -> Any:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        if version is not None:
            request.model_spec.version.value = version
        if label is not None:
            request.model_spec.version_label = label
        request.output_filter.extend(outputs)
        for name, value in inputs.items():
            proto = value if isinstance(value, TensorProto) else tf.make_tensor_proto(value)
            request.inputs[name].CopyFrom(proto)
        return self._predictions.Predict(request, timeout=60)

    def metadata(self, model: str, *fields: str) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        request.model_spec.name = model
        return self._predictions.GetModelMetadata(request, timeout=60)

    def status(self, model: str, version: int | None = None) -> Any:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        return self._models.GetModelStatus(request, timeout=60)


@pytest.fixture(scope="module")
def client(start_server: Any, model_config: Any) -> Iterator[Client]:
    server = start_server(f"--model_config_file={model_config(*MODELS)}").wait_until_ready()
    with server.channel() as channel:
        yield Client(channel)


@pytest.fixture(scope="module")
def old_client(start_server: Any, model_config: Any) -> Iterator[Client]:
    """A client of a server that answers as TF Serving before 2.19."""
    flags = (f"--model_config_file={model_config('echo')}", "--enable_serialization_as_tensor_content=false")
    with start_server(*flags).wait_until_ready().channel() as channel:
        yield Client(channel)


def x(*rows: list[float]) -> np.ndarray:
    return np.array(rows or [[2, 4, 6]], np.float32)


def error(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details()


@pytest.mark.parametrize(("version", "served"), [(None, 10), (1, 1), (2, 2), (10, 10)])
def test_each_version_answers_and_the_highest_number_is_latest(
    client: Client, version: int | None, served: int
) -> None:
    response = client.predict("half_plus", version=version, x=x())
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [[1 + served, 2 + served, 3 + served]]
    assert (response.model_spec.name, response.model_spec.version.value) == ("half_plus", served)
    assert response.model_spec.signature_name == "serving_default"


@pytest.mark.parametrize("dtype", ARRAYS)
def test_every_dtype_comes_back_as_it_was_sent_as_tensor_content(client: Client, dtype: str) -> None:
    array = ARRAYS[dtype]
    proto = as_lists(array, dtype) if dtype == "string" else None
    if proto is None:
        proto = TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum, tensor_content=array.tobytes())
        proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    answer = client.predict("echo", dtype, x=proto).outputs["y"]
    assert bool(answer.tensor_content) == (dtype != "string")
    np.testing.assert_array_equal(tf.make_ndarray(answer), array, strict=True)


@pytest.mark.parametrize("dtype", ARRAYS)
def test_every_dtype_comes_back_as_it_was_sent_in_lists(old_client: Client, dtype: str) -> None:
    array = ARRAYS[dtype]
    answer = old_client.predict("echo", dtype, x=as_lists(array, dtype)).outputs["y"]
    assert not answer.tensor_content
    np.testing.assert_array_equal(tf.make_ndarray(answer), array, strict=True)


@pytest.mark.parametrize("dtype", ARRAYS)
def test_a_short_list_repeats_its_last_value(client: Client, dtype: str) -> None:
    array = ARRAYS[dtype]
    sent = as_lists(array, dtype, keep=4 if dtype.startswith("complex") else 2)
    expected = array.reshape(-1)[[0, 1, 2, 3] if dtype.startswith("complex") else [0, 1, 1, 1]].reshape(2, 2)
    answer = client.predict("echo", dtype, x=sent).outputs["y"]
    np.testing.assert_array_equal(tf.make_ndarray(answer), expected, strict=True)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "string"])
def test_scalars_and_empty_tensors_keep_their_shape(client: Client, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.full(shape, b"s" if dtype == "string" else 2, object if dtype == "string" else np.float32)
    answer = client.predict("echo", dtype, x=tf.make_tensor_proto(array, dtype=dtype, shape=shape)).outputs["y"]
    np.testing.assert_array_equal(tf.make_ndarray(answer), array, strict=True)


def test_a_tensor_of_twenty_megabytes_passes(client: Client) -> None:
    array = np.arange(5_000_000, dtype=np.float32)
    answer = client.predict("echo", "float32", x=array).outputs["y"]
    assert np.frombuffer(answer.tensor_content, np.float32)[[0, -1]].tolist() == [0, array[-1]]


def test_the_output_filter_picks_outputs(client: Client) -> None:
    pair = {"a": np.full((2, 4), 3, np.float32), "b": np.full((2, 4), 5, np.float32)}
    assert set(client.predict("shapes", **pair).outputs) == {"sum", "product"}
    chosen = client.predict("shapes", outputs=("product",), **pair).outputs
    assert set(chosen) == {"product"}
    assert tf.make_ndarray(chosen["product"])[0, 0] == 15


def test_strings_go_both_ways_with_their_bytes(client: Client) -> None:
    outputs = client.predict("strings", text=np.array(["né".encode(), b"\xff"], object)).outputs
    assert outputs["upper"].string_val[0] == "NÉ".encode()
    assert list(outputs["raw_bytes"].string_val) == ["né".encode(), b"\xff"]
    assert tf.make_ndarray(outputs["length"]).tolist() == [3, 1]


def test_an_init_operation_fills_tables_of_tf_2_and_tf_1(client: Client) -> None:
    ids = client.predict("lookup", word=np.array(["two", "zero", "none"], object)).outputs["id"]
    assert tf.make_ndarray(ids).tolist() == [2, 0, -1]
    ids = client.predict("tf1", word=np.array(["dog", "cat"], object)).outputs["id"]
    assert tf.make_ndarray(ids).tolist() == [10, 0]


def test_a_folder_with_only_saved_model_pb_is_served(client: Client) -> None:
    outputs = client.predict("constants", x=np.array([1, 2], np.float32)).outputs
    assert tf.make_ndarray(outputs["y"]).tolist() == [3, 6]


@pytest.mark.parametrize("signature", ["", "serve", "serving_default"])
def test_a_keras_export_answers(client: Client, signature: str) -> None:
    (name,) = client_inputs(client, "keras", signature or "serving_default")
    outputs = client.predict("keras", signature, **{name: np.ones((1, 4), np.float32)}).outputs
    assert tf.make_ndarray(outputs["output_0"]).tolist() == [[5, 5]]


def client_inputs(client: Client, model: str, signature: str) -> list[str]:
    return list(signatures_of(client, model)[signature].inputs)


def signatures_of(client: Client, model: str) -> Any:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert client.metadata(model, "signature_def").metadata["signature_def"].Unpack(signatures)
    return signatures.signature_def


def test_metadata_holds_every_signature_and_not_the_init_operation(client: Client) -> None:
    response = client.metadata("shapes", "signature_def")
    assert (response.model_spec.name, response.model_spec.version.value) == ("shapes", 1)
    found = signatures_of(client, "shapes")
    assert set(found) == {"serving_default", "total", "divide"}
    a = found["serving_default"].inputs["a"]
    assert (a.dtype, [dim.size for dim in a.tensor_shape.dim]) == (tf.float32.as_datatype_enum, [-1, 4])
    assert found["serving_default"].method_name == "tensorflow/serving/predict"
    assert found["total"].inputs["x"].tensor_shape.unknown_rank


def test_status_tells_every_version_or_the_one_asked_for(client: Client) -> None:
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    found = client.status("half_plus").model_version_status
    assert [(each.version, each.state) for each in found] == [(10, available), (2, available), (1, available)]
    assert [each.version for each in client.status("half_plus", 2).model_version_status] == [2]


NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
FAILED = grpc.StatusCode.FAILED_PRECONDITION
FOUR = np.ones((1, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        pytest.param(
            lambda c: c.predict("nobody", x=x()),
            NOT_FOUND,
            "Servable not found for request: Latest(nobody)",
            id="unknown model",
        ),
        pytest.param(
            lambda c: c.predict("half_plus", version=3, x=x()),
            NOT_FOUND,
            "Servable not found for request: Specific(half_plus, 3)",
            id="unknown version",
        ),
        pytest.param(
            lambda c: c.predict("", "total", x=x()), INVALID, "ModelSpec has no name specified.", id="no model name"
        ),
        pytest.param(
            lambda c: c.predict("half_plus", label="canary", x=x()),
            INVALID,
            "Unrecognized servable version label: canary",
            id="unknown label",
        ),
        pytest.param(
            lambda c: c.predict("half_plus", "nothing", x=x()),
            FAILED,
            'Serving signature key "nothing" not found.',
            id="unknown signature",
        ),
        pytest.param(
            lambda c: c.predict("named", x=np.ones(1, np.float32)),
            FAILED,
            'Serving signature key "serving_default" not found.',
            id="no default signature",
        ),
        pytest.param(
            lambda c: c.predict("half_plus", "__saved_model_init_op"),
            FAILED,
            'Serving signature key "__saved_model_init_op" not found.',
            id="the init operation is no signature",
        ),
        pytest.param(
            lambda c: c.predict("shapes", a=FOUR),
            INVALID,
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
            "Missing but required: {b}.",
            id="missing input",
        ),
        pytest.param(
            lambda c: c.predict("shapes", a=FOUR, b=FOUR, c=FOUR),
            INVALID,
            "Sent extra: {c}. Missing but required: {}.",
            id="unknown input beside the right ones",
        ),
        pytest.param(lambda c: c.predict("half_plus", y=x()), INVALID, "Missing but required: {x}.", id="wrong name"),
        pytest.param(
            lambda c: c.predict("half_plus", x=np.ones((1, 3), np.int64)),
            INVALID,
            "input 'x': found int64 of shape [1, 3], expected float32 of shape [?, 3].",
            id="wrong dtype",
        ),
        pytest.param(
            lambda c: c.predict("half_plus", x=np.ones((1, 5), np.float32)),
            INVALID,
            "input 'x': found float32 of shape [1, 5], expected float32 of shape [?, 3].",
            id="wrong size",
        ),
        pytest.param(
            lambda c: c.predict("half_plus", x=np.ones(3, np.float32)),
            INVALID,
            "input 'x': found float32 of shape [3], expected float32 of shape [?, 3].",
            id="wrong rank",
        ),
        pytest.param(
            lambda c: c.predict("half_plus", x=np.array([[b"a", b"b", b"c"]], object)),
            INVALID,
            "input 'x': found string of shape [1, 3]",
            id="a string where a number is expected",
        ),
        pytest.param(
            lambda c: c.predict(
                "half_plus",
                x=TensorProto(dtype=1, tensor_content=b"1234", tensor_shape=tf.TensorShape([1, 3]).as_proto()),
            ),
            INVALID,
            "tensor parsing error: x",
            id="content of another size than the shape",
        ),
        pytest.param(
            lambda c: c.predict("shapes", outputs=("sum", "quotient"), a=FOUR, b=FOUR),
            INVALID,
            "output tensor alias not found in signature: quotient Outputs expected to be in the set {product,sum}.",
            id="unknown output",
        ),
        pytest.param(
            lambda c: c.predict("shapes", outputs=("sum", "sum"), a=FOUR, b=FOUR),
            INVALID,
            "duplicate output tensor alias: sum",
            id="output named twice",
        ),
        pytest.param(
            lambda c: c.predict("shapes", "divide", x=np.array([1], np.int32), by=np.array([0], np.int32)),
            INVALID,
            "Integer division by zero",
            id="an error in the graph",
        ),
        pytest.param(
            lambda c: c.predict("sparse", x=FOUR),
            INVALID,
            "input 'x' is a sparse or ragged tensor, which Predict can't carry.",
            id="a sparse input",
        ),
        pytest.param(
            lambda c: c.metadata("nobody", "signature_def"), NOT_FOUND, "Latest(nobody)", id="metadata: model"
        ),
        pytest.param(lambda c: c.metadata("echo"), INVALID, "at least one metadata_field", id="metadata: no field"),
        pytest.param(
            lambda c: c.metadata("echo", "other"),
            INVALID,
            "Metadata field other is not supported",
            id="metadata: field",
        ),
        pytest.param(
            lambda c: c.status("nobody"), NOT_FOUND, "Could not find any versions of model nobody", id="status: model"
        ),
        pytest.param(
            lambda c: c.status("echo", 7), NOT_FOUND, "Could not find version 7 of model echo", id="status: version"
        ),
        pytest.param(lambda c: c.status(""), INVALID, "Missing ModelSpec", id="status: no name"),
    ],
)
def test_a_wrong_request_is_refused_with_tf_servings_code_and_words(
    client: Client, call: Callable[[Client], Any], code: grpc.StatusCode, words: str
) -> None:
    found = error(lambda: call(client))
    assert found[0] is code
    assert words in found[1]


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\xff\xff", "not a PredictRequest"), (b"", "Missing ModelSpec"), (b"\x0a\x00", "Missing ModelSpec")],
    ids=["noise", "nothing", "an empty spec"],
)
def test_bytes_that_are_no_request_are_refused(client: Client, data: bytes, words: str) -> None:
    send = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert error(lambda: send(data, timeout=60))[0] is INVALID
    assert words in error(lambda: send(data, timeout=60))[1]


def test_calls_run_at_the_same_time(client: Client) -> None:
    """One call waits in the graph for what another brings: it ends only if both run at once."""
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(client.predict, "meeting", "take")
        client.predict("meeting", "give", x=np.array([7], np.float32))
        assert tf.make_ndarray(taken.result(60).outputs["y"]).tolist() == [7]
