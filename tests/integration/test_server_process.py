"""The server as a process: starting, refusing to start, stopping, being killed."""

import json
import os
import select
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from batchyard.api.process import parent_death_env
from batchyard.serving import tensors, wire
from batchyard.serving.protos import model_pb2

pytestmark = pytest.mark.tensorflow


def predict(channel: grpc.Channel, model: str, array: np.ndarray) -> grpc.Future:
    spec = model_pb2.ModelSpec(name=model).SerializeToString()
    request = wire.write_request(spec, {"x": tensors.encode(array)})
    return channel.unary_unary("/tensorflow.serving.PredictionService/Predict").future(request, timeout=60)


def answer(call: grpc.Future) -> list[Any]:
    outputs, _ = wire.read_response(call.result())
    return tensors.decode(outputs["y"]).tolist()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_server(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to refuse."""
    return subprocess.run(
        [sys.executable, "-m", "batchyard.serving.server", *flags], capture_output=True, text=True, timeout=120
    )


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_one_server_answers_on_tcp_on_a_unix_socket_and_by_http(start_server: Any, savedmodels: Path) -> None:
    port, rest = free_port(), free_port()
    server = start_server(
        *("--model_base_path", str(savedmodels / "half_plus"), "--model_name=half", f"--port={port}"),
        *("--rest_api_port", str(rest), "--enable_batching", "--file_system_poll_wait_seconds=0"),
    ).wait_until_ready()
    with server.channel() as unix, grpc.insecure_channel(f"127.0.0.1:{port}") as tcp:
        for channel in (unix, tcp):
            assert answer(predict(channel, "half", np.zeros((1, 3), np.float32))) == [[10, 10, 10]]
    url = f"http://127.0.0.1:{rest}/v1/models"
    ok = {"error_code": "OK", "error_message": ""}
    only_latest = [{"version": "10", "state": "AVAILABLE", "status": ok}]
    assert get(f"{url}/half") == (200, {"model_version_status": only_latest})
    assert get(f"{url}/half/versions/10") == (200, {"model_version_status": only_latest})
    assert get(f"{url}/half/versions/1") == (404, {"error": "Could not find version 1 of model half"})
    assert get(f"{url}/nobody") == (404, {"error": "Could not find any versions of model nobody"})
    assert get(f"{url}:predict")[0] == 404
    assert "--enable_batching has no effect" in server.log.read_text()
    assert server.stop() == 0


def test_sigterm_lets_calls_in_flight_finish_and_a_killed_server_starts_again_on_its_socket(
    start_server: Callable[..., Any], model_config: Callable[..., Path]
) -> None:
    flags = f"--model_config_file={model_config('slow', 'half_plus')}"
    killed = start_server(flags).wait_until_ready()
    path = killed.address.removeprefix("unix:")
    with killed.channel() as channel:
        lost = predict(channel, "slow", np.ones(1, np.float32))
        killed.process.kill()
        killed.process.wait()
        assert lost.exception(timeout=60).code() is grpc.StatusCode.UNAVAILABLE
    assert Path(path).exists()  # stale: nobody listens

    server = start_server(flags, socket=path).wait_until_ready()
    second = run_server(flags, f"--grpc_socket_path={path}")
    assert second.returncode == 1
    assert f"another process listens on {path}" in second.stderr
    with server.channel() as channel:
        call = predict(channel, "slow", np.ones(1, np.float32))
        assert answer(predict(channel, "half_plus", np.zeros((1, 3), np.float32))) == [[10, 10, 10]]
        server.process.terminate()
        assert answer(call) == [1]
    assert server.process.wait(60) == 0
    assert not Path(path).exists()


def test_every_model_that_fails_to_load_is_named_with_its_reason(
    model_config: Callable[..., Path], tmp_path: Path
) -> None:
    broken = ("lost", "newer", "untagged", "corrupt", "unrestored")
    flags = (f"--model_config_file={model_config(*broken, 'half_plus')}",)
    failed = run_server(*flags, f"--grpc_socket_path={tmp_path}/s")
    assert failed.returncode == 1
    said = [line for line in failed.stderr.splitlines() if line.startswith("model server: model ")]
    assert len(said) == 5
    for line, model, reason in zip(
        said,
        broken,
        (
            "Read less bytes than requested. It was saved with TensorFlow ",
            "Op type not registered 'OpFromTheFuture'",
            "no graph of it is tagged 'serve' (tags found: train).",
            "saved_model.pb is damaged or no SavedModel",
            "which variables/ does not bring back: export a Keras model by model.export(path).",
        ),
        strict=True,
    ):
        assert f"model '{model}', version 1 (" in line
        assert reason in line
    assert "It was saved with TensorFlow 99.0.0, newer than this server's " in said[1]
    assert not (tmp_path / "s").exists()  # nobody was let in


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread looks for the parent, which takes longer")
def test_a_server_ends_with_the_process_that_started_it(savedmodels: Path, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, os\n"
        "from batchyard.api.process import parent_death_env\n"
        "child = subprocess.Popen(sys.argv[1:], env={**os.environ, **parent_death_env()}, stderr=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "for line in child.stderr:\n"
        "    if b'serving' in line: print('ready', flush=True)\n"
    )
    assert parent_death_env()
    command = [sys.executable, "-m", "batchyard.serving.server", f"--grpc_socket_path={tmp_path}/s"]
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *command, f"--model_base_path={savedmodels / 'half_plus'}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        handle = os.pidfd_open(pid)
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        parent.wait()
    assert select.select([handle], [], [], 30)[0], "the server outlives its parent"
    os.close(handle)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        pytest.param(("--model_bas_path=/x",), 2, "Did you mean --model_base_path?", id="typo"),
        pytest.param((), 2, "no model to serve: give --model_base_path", id="no model"),
        pytest.param(("--model_base_path={models}/none",), 2, "there is no folder {models}/none", id="no folder"),
        pytest.param(
            ("--model_base_path={models}/shapes",), 2, "It is a SavedModel itself: move it to {models}/shapes/1.",
            id="no version folder",
        ),
        pytest.param(("--model_config_file={models}/none",), 2, "there is no file {models}/none", id="no config"),
        pytest.param(
            ("--model_base_path={models}/half_plus", "--grpc_socket_path=/tmp/" + "s" * 120), 2,
            "the path has 125 bytes, and the system takes at most 107", id="socket path too long",
        ),
        pytest.param(
            ("--model_base_path={models}/half_plus", "--grpc_socket_path={models}/none/s"), 1,
            "there is no folder {models}/none", id="socket in no folder",
        ),
        pytest.param(
            ("--model_base_path={models}/half_plus", "--port={taken}"), 1, "can't listen on 127.0.0.1:{taken}",
            id="port taken",
        ),
    ],
)  # fmt: skip
def test_a_server_that_cannot_start_says_why(
    savedmodels: Path, flags: tuple[str, ...], code: int, words: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        facts = {"models": savedmodels, "taken": taken.getsockname()[1]}
        refused = run_server(*(flag.format(**facts) for flag in flags))
    assert refused.returncode == code, refused.stderr
    assert words.format(**facts) in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_machine_without_tensorflow_is_told_how_to_get_it(savedmodels: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['tensorflow'] = None; from batchyard.serving.server import main; sys.exit(main())"
    flags = (f"--model_base_path={savedmodels / 'half_plus'}", f"--grpc_socket_path={tmp_path}/s")
    refused = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert refused.stderr == "model server: TensorFlow is not installed here: pip install 'batchyard[local]'.\n"


def test_a_file_where_the_socket_should_be_is_left_alone(savedmodels: Path, tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("kept")
    refused = run_server(f"--model_base_path={savedmodels / 'half_plus'}", f"--grpc_socket_path={file}")
    assert (refused.returncode, file.read_text()) == (1, "kept")
    assert "is no socket" in refused.stderr
