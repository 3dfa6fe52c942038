"""Our messages are the official ones, byte for byte and field for field."""

from typing import Any

import pytest
from batchyard.serving import wire
from batchyard.serving.protos import (
    metadata_pb2,
    model_pb2,
    model_server_config_pb2,
    predict_pb2,
    status_pb2,
    tensor_pb2,
)
from google.protobuf import text_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor
from google.protobuf.wrappers_pb2 import Int64Value

pytestmark = pytest.mark.tensorflow
serving = pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api: make setup")


def official() -> dict[str, Any]:
    from tensorflow.core.framework import tensor_pb2 as tf_tensor
    from tensorflow.core.framework import tensor_shape_pb2 as tf_shape
    from tensorflow.core.protobuf import meta_graph_pb2 as tf_graph
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2
    from tensorflow_serving.apis import model_pb2 as tf_model
    from tensorflow_serving.apis import predict_pb2 as tf_predict
    from tensorflow_serving.config import file_system_storage_path_source_pb2 as tf_source
    from tensorflow_serving.config import model_server_config_pb2 as tf_config

    status = get_model_status_pb2.ModelVersionStatus
    return {
        "TensorProto": tf_tensor.TensorProto,
        "TensorShapeProto": tf_shape.TensorShapeProto,
        "ModelSpec": tf_model.ModelSpec,
        "PredictRequest": tf_predict.PredictRequest,
        "PredictResponse": tf_predict.PredictResponse,
        "TensorInfo": tf_graph.TensorInfo,
        "SignatureDef": tf_graph.SignatureDef,
        "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
        "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
        "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
        "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
        "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
        "ModelVersionStatus": status,
        "StatusProto": type(status().status),
        "ServableVersionPolicy": tf_source.FileSystemStoragePathSourceConfig.ServableVersionPolicy,
        "ModelConfig": tf_config.ModelConfig,
        "ModelConfigList": tf_config.ModelConfigList,
        "ModelServerConfig": tf_config.ModelServerConfig,
    }


MODULES = (tensor_pb2, model_pb2, predict_pb2, metadata_pb2, status_pb2, model_server_config_pb2)
OURS: dict[str, Any] = {
    name: getattr(module, name) for module in MODULES for name in module.DESCRIPTOR.message_types_by_name
}


def compare(ours: Descriptor, theirs: Descriptor) -> None:
    """Every field of ours is a field of theirs, with its number, type, label and packing; and so down the tree."""
    for field in ours.fields:
        twin = theirs.fields_by_name[field.name]
        kinds = {field.type, twin.type}
        assert field.number == twin.number, field.full_name
        assert len(kinds) == 1 or kinds == {field.TYPE_INT32, field.TYPE_ENUM}, field.full_name
        assert field.is_repeated == twin.is_repeated, field.full_name
        if field.is_repeated:
            assert field.is_packed == twin.is_packed, field.full_name
        if field.has_presence != twin.has_presence:
            pytest.fail(f"{field.full_name}: one of the two tells an absent value from a zero")
        if field.message_type and field.message_type.file.package == "batchyard.serving":
            compare(field.message_type, twin.message_type)
        elif field.message_type:
            assert field.message_type.full_name == twin.message_type.full_name


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_field_is_the_official_one(name: str) -> None:
    compare(OURS[name].DESCRIPTOR, official()[name].DESCRIPTOR)


@pytest.mark.parametrize("enum", ["DataType", "State"])
def test_every_enum_value_is_the_official_one(enum: str) -> None:
    from tensorflow.core.framework import types_pb2
    from tensorflow_serving.apis import get_model_status_pb2

    ours, theirs = {
        "DataType": (tensor_pb2.DataType, types_pb2.DataType),
        "State": (status_pb2.ModelVersionStatus.State, get_model_status_pb2.ModelVersionStatus.State),
    }[enum]
    assert set(ours.items()) <= set(theirs.items())


def filled() -> dict[str, Any]:
    """One message of each kind that goes over the wire, with every field set that we use."""
    spec = model_pb2.ModelSpec(name="mödel", version=Int64Value(value=3), signature_name="serving_default")
    latest = model_pb2.ModelSpec(name="m", version_label="stable")
    shape = tensor_pb2.TensorShapeProto(dim=[tensor_pb2.TensorShapeProto.Dim(size=-1, name="batch")])
    tensor = tensor_pb2.TensorProto(dtype=tensor_pb2.DT_FLOAT, tensor_shape=shape, tensor_content=b"\0\0\x80?")
    info = metadata_pb2.TensorInfo(name="x:0", dtype=tensor_pb2.DT_FLOAT, tensor_shape=shape)
    unnamed = metadata_pb2.TensorInfo(name="", tensor_shape=tensor_pb2.TensorShapeProto(unknown_rank=True))
    signature = metadata_pb2.SignatureDef(
        inputs={"x": info}, outputs={"y": unnamed}, method_name="predict", defaults={"x": tensor}
    )
    signatures = metadata_pb2.SignatureDefMap(signature_def={"serving_default": signature})
    packed = AnyMessage(
        type_url="type.googleapis.com/tensorflow.serving.SignatureDefMap", value=signatures.SerializeToString()
    )
    status = status_pb2.ModelVersionStatus(
        version=2,
        state=status_pb2.ModelVersionStatus.AVAILABLE,
        status=status_pb2.StatusProto(error_code=5, error_message="gone"),
    )
    return {
        "PredictRequest": predict_pb2.PredictRequest(model_spec=spec, inputs={"x": tensor}, output_filter=["a", "b"]),
        "PredictResponse": predict_pb2.PredictResponse(model_spec=latest, outputs={"ÿ": tensor}),
        "GetModelMetadataRequest": metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        ),
        "GetModelMetadataResponse": metadata_pb2.GetModelMetadataResponse(
            model_spec=spec, metadata={"signature_def": packed}
        ),
        "SignatureDefMap": signatures,
        "GetModelStatusRequest": status_pb2.GetModelStatusRequest(model_spec=spec),
        "GetModelStatusResponse": status_pb2.GetModelStatusResponse(model_version_status=[status]),
    }


@pytest.mark.parametrize("name", sorted(filled()))
def test_a_filled_message_is_the_same_bytes_and_the_same_text_in_both(name: str) -> None:
    ours = filled()[name]
    data = ours.SerializeToString(deterministic=True)
    theirs = official()[name].FromString(data)
    assert theirs.SerializeToString(deterministic=True) == data
    assert OURS[name].FromString(data) == ours
    if name not in ("GetModelMetadataResponse", "GetModelStatusResponse"):  # an Any unpacks; a code has a name
        assert text_format.MessageToString(theirs) == text_format.MessageToString(ours)


def test_the_official_any_unpacks_the_metadata_that_we_write() -> None:
    theirs = official()["GetModelMetadataResponse"].FromString(
        filled()["GetModelMetadataResponse"].SerializeToString()
    )
    signatures = official()["SignatureDefMap"]()
    assert theirs.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].name == "x:0"


def test_a_framed_request_is_what_the_official_class_writes() -> None:
    request = filled()["PredictRequest"]
    spec, tensor = request.model_spec.SerializeToString(), request.inputs["x"].SerializeToString()
    framed = wire.write_request(spec, {"x": [tensor[:5], memoryview(tensor)[5:]]}, ["a", "b"])
    theirs = official()["PredictRequest"].FromString(framed)
    assert framed == theirs.SerializeToString(deterministic=True)
    assert wire.read_request(framed) == (spec, {"x": tensor}, ["a", "b"])


def test_a_framed_response_is_what_the_official_class_writes() -> None:
    response = filled()["PredictResponse"]
    spec, tensor = response.model_spec.SerializeToString(), response.outputs["ÿ"].SerializeToString()
    framed = wire.write_response({"ÿ": [tensor]}, spec)
    assert framed == official()["PredictResponse"].FromString(framed).SerializeToString(deterministic=True)
    assert wire.read_response(framed) == ({"ÿ": tensor}, spec)


@pytest.mark.parametrize("size", [0, 1, 4095, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9_999_999])
def test_parts_of_any_size_are_joined_whole(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    parts = [b"", b"head", memoryview(body), memoryview(b""), b"tail"]
    assert wire.join(parts) == b"head" + body + b"tail"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 2**21, 2**31])
def test_a_length_is_written_as_protobuf_writes_it(size: int) -> None:
    message = tensor_pb2.TensorProto(int64_val=[size])
    assert message.SerializeToString().endswith(wire.varint(size))


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_response_that_is_cut_short_is_refused(cut: int) -> None:
    spec = model_pb2.ModelSpec(name="m").SerializeToString()
    framed = wire.write_response({"x": [bytes(100)]}, spec)
    with pytest.raises(ValueError, match=r"cut short|not a"):
        wire.read_response(framed[: len(framed) - cut])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x0b\x00", id="a group"),
        pytest.param(b"\x08\x05", id="a number where a tensor belongs"),
        pytest.param(b"\xff" * 12, id="a number without end"),
        pytest.param(b"<html>502</html>", id="not protobuf at all"),
    ],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        wire.read_response(data)


def test_fields_that_newer_servers_add_are_skipped() -> None:
    theirs = official()["PredictRequest"](client_id=b"me")
    theirs.predict_streamed_options.request_state = 1
    theirs.inputs["x"].dtype = 1
    assert wire.read_request(theirs.SerializeToString())[1] == {"x": b"\x08\x01"}
    assert wire.read_response(b"\x4d\x01\x02\x03\x04" + b"\x51" + bytes(8)) == ({}, b"")


def test_the_example_of_a_model_config_file_reads_the_same_in_both() -> None:
    text = """
    model_config_list {
      config {
        name: "digits" base_path: "/mnt/models/digits" model_platform: "tensorflow"
        model_version_policy { specific { versions: 1 versions: 7 } }
        version_labels { key: "stable" value: 1 }
      }
      config { name: "words" base_path: "/mnt/models/words" model_version_policy { all {} } }
      config { name: "last" base_path: "/mnt/models/last" model_version_policy { latest { num_versions: 2 } } }
    }
    """
    ours = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    theirs = text_format.Parse(text, official()["ModelServerConfig"]())
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
