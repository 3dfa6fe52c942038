"""The server's command line and its config file, before TensorFlow is imported."""

from pathlib import Path

import pytest
from batchyard.serving.server_flags import FlagError, parse_flags
from batchyard.serving.server_model_config import ModelConfigError, models_to_serve, read_config

BASE = "--model_base_path=/m"


@pytest.mark.parametrize(
    "argv",
    [
        ["--port=9000", "--model_base_path=/m", "--model_name=iris"],
        ["--port", "9000", "--model_base_path", "/m", "--model_name", "iris"],
        ["--model-name=iris", BASE, "--port=1", "--port=9000"],
    ],
    ids=["with =", "with a space", "dashes, and the last one wins"],
)
def test_flags_are_taken_in_every_form(argv: list[str]) -> None:
    flags = parse_flags(argv)
    assert (flags.port, flags.model_base_path, flags.model_name) == (9000, Path("/m"), "iris")


@pytest.mark.parametrize(
    ("argv", "port", "socket"),
    [
        ([], 8500, None),
        (["--grpc_socket_path=/run/s"], 0, "/run/s"),
        (["--grpc_socket_path=/run/s", "--port=0"], 0, "/run/s"),
        (["--grpc_socket_path=/run/s", "--port=9000"], 9000, "/run/s"),
    ],
    ids=["TF Serving's default", "a socket alone", "port off", "both"],
)
def test_where_it_listens(argv: list[str], port: int, socket: str | None) -> None:
    flags = parse_flags([BASE, *argv])
    assert (flags.port, flags.socket, flags.host) == (port, socket, "127.0.0.1")


@pytest.mark.parametrize(
    ("argv", "content"),
    [
        ([], True),
        (["--enable_serialization_as_tensor_content=false"], False),
        (["--enable_serialization_as_tensor_content", "false"], False),
        (["--enable_serialization_as_tensor_content", "--port=1"], True),
    ],
)
def test_a_switch_may_stand_alone(argv: list[str], content: bool) -> None:
    assert parse_flags([BASE, *argv]).as_tensor_content is content


def test_flags_of_tf_serving_without_effect_here_are_named() -> None:
    argv = [BASE, "--enable_batching", "--batching_parameters_file", "/b", "--file_system_poll_wait_seconds=0"]
    assert parse_flags(argv).warnings == [
        "--enable_batching has no effect in this server",
        "--batching_parameters_file has no effect in this server",
    ]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([BASE, "--grpc_socket_pat=/s"], "there is no flag --grpc_socket_pat. Did you mean --grpc_socket_path?"),
        ([BASE, "--frobnicate"], "there is no flag --frobnicate."),
        ([BASE, "serve"], "found 'serve', expected flags only"),
        ([BASE, "--port"], "--port needs a value"),
        ([BASE, "--port", "--model_name=a"], "--port needs a value"),
        ([BASE, "--port=many"], "--port: found 'many', expected a whole number"),
        ([BASE, "--port=-1"], "--port: found '-1'"),
        ([BASE, "--port=70000"], "--port: found 70000, expected a port"),
        ([BASE, "--port=0"], "nothing to listen on"),
        ([BASE, "--port=9", "--rest_api_port=9"], "are both 9, expected two ports"),
        ([BASE, "--grpc_max_threads=0"], "expected at least 1"),
        ([BASE, "--enable_serialization_as_tensor_content=maybe"], "expected true or false"),
        ([BASE, "--ssl_config_file=/tls"], "this server speaks no TLS"),
        ([BASE, "--grpc_socket_path=/" + "é" * 60], "the path has 121 bytes, and the system takes at most 107"),
        ([], "no model to serve"),
        ([BASE, "--model_config_file=/c"], "found both --model_config_file and --model_base_path"),
    ],
)
def test_a_wrong_flag_is_refused_with_what_is_expected(argv: list[str], words: str) -> None:
    with pytest.raises(FlagError) as refused:
        parse_flags(argv)
    assert words in str(refused.value)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model's folder with the versions 1, 2, 10 and things that are none."""
    for name in ("1", "2", "00010", "v3", "-4"):
        (tmp_path / "iris" / name).mkdir(parents=True)
    (tmp_path / "iris" / "5").write_text("a file")
    return tmp_path / "iris"


def config(base: Path, policy: str = "", more: str = "") -> Path:
    file = base.parent / "models.config"
    file.write_text(
        f'model_config_list {{ config {{ name: "iris" base_path: "{base}" model_platform: "tensorflow"\n'
        f"{policy} {more}\n}} }}\n"
    )
    return file


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", [10]),
        ("model_version_policy { latest {} }", [10]),
        ("model_version_policy { latest { num_versions: 2 } }", [2, 10]),
        ("model_version_policy: { all: {} }", [1, 2, 10]),
        ("model_version_policy { specific { versions: 2 versions: 1 } }  # a comment", [1, 2]),
    ],
)
def test_the_version_policy_picks_versions(base: Path, policy: str, versions: list[int]) -> None:
    (model,) = models_to_serve(parse_flags([f"--model_config_file={config(base, policy)}"]))
    assert (model.name, sorted(model.folders)) == ("iris", versions)
    assert all(int(folder.name) == version for version, folder in model.folders.items())


def test_settings_of_tf_serving_that_say_nothing_here_are_read_over(base: Path) -> None:
    file = config(
        base, more='logging_config { log_collector_config { type: "x" } } version_labels { key: "a" value: 10 }'
    )
    (model,) = models_to_serve(parse_flags([f"--model_config_file={file}"]))
    assert model.labels == {"a": 10}


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("model_version_policy { specific { versions: 7 } }", "has no version 7; versions found: 1, 2, 10."),
        ("model_version_policy { specific {} }", "has no version (none is named)"),
        ('version_labels { key: "stable" value: 1 }', "the label 'stable' means version 1, which is not served"),
        ("base_pth: 3", 'no field named "base_pth"'),
        ("model_version_policy {", "Expected"),
    ],
)
def test_a_wrong_config_is_refused(base: Path, policy: str, words: str) -> None:
    with pytest.raises(ModelConfigError) as refused:
        models_to_serve(parse_flags([f"--model_config_file={config(base, policy)}"]))
    assert words in str(refused.value)


def test_every_model_that_cannot_be_served_is_named(base: Path) -> None:
    file = base.parent / "models.config"
    file.write_text(
        f'model_config_list {{ config {{ name: "a" base_path: "{base}/none" }} config {{ name: "b" }}\n'
        f'config {{ name: "c" base_path: "{base}" model_platform: "caffe" }} }}'
    )
    with pytest.raises(ModelConfigError) as refused:
        models_to_serve(parse_flags([f"--model_config_file={file}"]))
    assert len(refused.value.problems) == 3


def test_a_model_named_twice_and_an_empty_config_are_refused(base: Path) -> None:
    file = base.parent / "models.config"
    file.write_text('model_config_list { config { name: "a" base_path: "/a" } config { name: "a" base_path: "/b" } }')
    with pytest.raises(ModelConfigError, match="names the model 'a' more than once"):
        read_config(file)
    file.write_text("# nothing\n")
    with pytest.raises(ModelConfigError, match="names no model"):
        read_config(file)


def test_a_list_that_is_empty_on_purpose_is_taken(base: Path) -> None:
    file = base.parent / "models.config"
    file.write_text("model_config_list {\n}\n")
    assert read_config(file) == []
