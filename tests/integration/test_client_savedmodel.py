"""The handler's client against Batchyard's own server, with real SavedModels."""

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from batchyard.serving.client import (
    InvalidInput,
    InvalidModel,
    PredictError,
    ServedModel,
    ServerError,
    SignatureNotFound,
    TensorflowClient,
)

pytestmark = pytest.mark.tensorflow

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
    "string": np.array([["", "café"], [b"\xff\x00", "a" * 300]], object),
}
MODELS = [
    ServedModel("half_plus", (1, 2, 10)),
    ServedModel("shapes", (1,)),
    ServedModel("strings", (1,)),
    ServedModel("named", (1,)),
    ServedModel("keras", (1,), "serving_default"),
    ServedModel("constants", (1,)),
]


@pytest.fixture(scope="module", params=["tensor_content", "lists"])
def target(request: pytest.FixtureRequest, start_server: Callable[..., Any], model_config: Callable[..., Any]) -> str:
    """A server that answers as TF Serving does since 2.19, and one that answers as it did before."""
    names = [*(model.name for model in MODELS), "two_named", "echo"]
    content = str(request.param == "tensor_content").lower()
    server = start_server(
        f"--model_config_file={model_config(*names)}", f"--enable_serialization_as_tensor_content={content}"
    )
    return str(server.wait_until_ready().address)


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[TensorflowClient]:
    client = TensorflowClient(target, MODELS, deadline=30)
    client.check()
    yield client
    client.close()


@pytest.mark.parametrize(("version", "bias"), [("latest", 10), (1, 1), ("2", 2)])
def test_the_asked_version_predicts(client: TensorflowClient, version: int | str, bias: int) -> None:
    out = client.predict({"x": [[2, 4, 6]]}, "half_plus", version)
    np.testing.assert_array_equal(out["y"], np.array([[1, 2, 3]], np.float32) + bias)
    assert out["y"].dtype == np.float32


def test_all_outputs_come_back_by_name(client: TensorflowClient) -> None:
    out = client.predict({"a": [[1, 2, 3, 4]], "b": np.full((1, 4), 2, np.int8)}, "shapes")
    assert {name: value.tolist() for name, value in out.items()} == {"sum": [[3, 4, 5, 6]], "product": [[2, 4, 6, 8]]}


def test_text_goes_in_and_comes_out_as_text(client: TensorflowClient) -> None:
    out = client.predict({"text": ["naïve", b"\xff\xfe"]}, "strings")
    assert out["upper"].tolist()[0] == "NAÏVE"
    assert out["length"].tolist() == [6, 2]
    assert out["raw_bytes"].tolist() == ["naïve".encode(), b"\xff\xfe"]


@pytest.mark.parametrize("dtype", sorted(ARRAYS))
@pytest.mark.parametrize("cut", ["array", "scalar", "columns without values"])
def test_every_dtype_makes_the_round_trip(target: str, dtype: str, cut: str) -> None:
    array = ARRAYS[dtype]
    value = {"array": array, "scalar": np.array(array[1, 1], array.dtype), "columns without values": array[:, :0]}[
        cut
    ]
    client = TensorflowClient(target, [ServedModel("echo", (1,), dtype)], deadline=30)
    found = client.predict({"x": value})["y"]
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    np.testing.assert_array_equal(found, value)
    client.close()


def test_the_only_signature_is_found_whatever_its_name(client: TensorflowClient) -> None:
    assert client.predict({"x": [1.5]}, "named")["y"].tolist() == [3.0]


def test_a_keras_export_predicts(client: TensorflowClient) -> None:
    assert client.predict({"keras_tensor": [[1, 2, 3, 4]]}, "keras")["output_0"].tolist() == [[11, 11]]


def test_two_signatures_and_no_default_is_a_question_to_the_user(target: str) -> None:
    client = TensorflowClient(target, [ServedModel("two_named", (1,))], deadline=30)
    words = r"model 'two_named' version 1 has several signatures \('left', 'right'\): name one as signatureKey"
    with pytest.raises(InvalidModel, match=words):
        client.check()
    with pytest.raises(SignatureNotFound, match=words):
        client.predict({"x": [1.0]})
    client.close()


@pytest.mark.parametrize(("key", "times"), [("left", 2.0), ("right", 3.0)])
def test_the_configured_signature_predicts(target: str, key: str, times: float) -> None:
    client = TensorflowClient(target, [ServedModel("two_named", (1,), key)], deadline=30)
    assert client.predict({"x": [1.0]})["y"].tolist() == [times]
    client.close()


@pytest.mark.parametrize(
    ("model_input", "model", "message"),
    [
        pytest.param({"x": [[1, 2]]}, "half_plus", "input 'x': expected shape [?, 3], found [1, 2]", id="shape"),
        pytest.param({"X": [[1, 2, 3]]}, "half_plus", "no input 'X'; it takes 'x' float32[?, 3]", id="name"),
        pytest.param({"a": [[1, 2, 3, 4]]}, "shapes", "missing input 'b'", id="missing"),
        pytest.param({"text": [1]}, "strings", "expected str or bytes, found int 1", id="dtype"),
    ],
)
def test_a_wrong_input_is_told_with_the_models_own_names(
    client: TensorflowClient, model_input: Any, model: str, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.predict(model_input, model)
    assert message in str(caught.value)


def test_a_fault_in_the_graph_is_told_in_the_servers_words(target: str) -> None:
    client = TensorflowClient(target, [ServedModel("shapes", (1,), "divide")], deadline=30)
    with pytest.raises(ServerError, match=r"model 'shapes' version 1: the model server answered \w+: .*[Dd]ivision"):
        client.predict({"x": [1], "by": [0]})
    client.close()


def test_a_model_that_the_server_does_not_hold_is_found_at_the_check(target: str) -> None:
    client = TensorflowClient(target, [ServedModel("half_plus", (3,))], deadline=30)
    with pytest.raises(InvalidModel, match="model 'half_plus' version 3 is not loaded in the model server: Servable"):
        client.check()
    with pytest.raises(PredictError, match="is not loaded"):
        client.predict({"x": [[1, 2, 3]]})
    client.close()
