"""What a model server is told: our text and flags, read back by the server's own readers."""

from pathlib import Path

import pytest
from batchyard.api.serving_flags import Listen, Version, server_arguments, server_version
from batchyard.models.local import ServedModel
from batchyard.models.serving_config import config_text
from batchyard.serving.server_flags import parse_flags
from batchyard.serving.server_model_config import read_config

CONFIG = Path("/run/models.config")


@pytest.mark.parametrize("name", ["iris", 'a "quoted" \\ name', "größe\nzwei"])
def test_the_config_text_is_read_back_as_it_was_meant(name: str, tmp_path: Path) -> None:
    models = [ServedModel(name, tmp_path / name, (1, 2)), ServedModel("other", Path("/m/other"), (1,))]
    file = tmp_path / "models.config"
    file.write_text(config_text(models))
    found = read_config(file)
    assert [(each.name, each.base_path) for each in found] == [(m.name, str(m.base_path)) for m in models]
    assert {each.model_version_policy.WhichOneof("policy_choice") for each in found} == {"all"}


@pytest.mark.parametrize(
    ("version", "present", "absent"),
    [
        pytest.param(None, {"--port=8500"}, {"--enable_serialization_as_tensor_content=true"}, id="unknown"),
        pytest.param((2, 3), {"--port=8500"}, {"--enable_serialization_as_tensor_content=true"}, id="2.3"),
        pytest.param((2, 19), {"--port=8500", "--enable_serialization_as_tensor_content=true"}, set(), id="2.19"),
    ],
)
def test_flags_are_those_that_the_servers_version_knows(
    version: Version | None, present: set[str], absent: set[str]
) -> None:
    listen = Listen(port=8500, socket=Path("/run/s"), rest_port=8501)
    flags = set(server_arguments(CONFIG, listen, threads=2, version=version))
    assert flags >= present | {"--grpc_socket_path=/run/s", "--rest_api_port=8501", f"--model_config_file={CONFIG}"}
    assert flags >= {"--tensorflow_intra_op_parallelism=2", "--tensorflow_inter_op_parallelism=2"}
    assert not flags & absent


def test_tcp_is_turned_off_where_the_server_can() -> None:
    listen = Listen(socket=Path("/run/s"))
    assert "--port=0" in server_arguments(CONFIG, listen, version=(2, 6))
    assert not any(flag.startswith("--port") for flag in server_arguments(CONFIG, listen, version=(2, 5)))


def test_our_server_takes_the_same_flags() -> None:
    listen = Listen(port=1234, socket=Path("/run/s"), rest_port=1235)
    flags = parse_flags(server_arguments(CONFIG, listen, threads=3, version=(2, 19)))
    assert (flags.port, flags.socket, flags.rest_api_port, flags.model_config_file) == (1234, "/run/s", 1235, CONFIG)
    assert (flags.intra_op_threads, flags.inter_op_threads, flags.warnings) == (3, 3, [])


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("TensorFlow ModelServer: 2.3.0-rc0+dev.sha.no_git\nTensorFlow Library: 2.3.0\n", (2, 3)),
        ("TensorFlow ModelServer: 2.19.1\n", (2, 19)),
        ("command not understood", None),
    ],
)
def test_the_version_is_read_from_what_the_binary_prints(text: str, version: Version | None) -> None:
    assert server_version(text) == version
