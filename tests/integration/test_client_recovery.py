"""The handler's client while its server is away, killed, restarted, or never comes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from batchyard.serving.client import ServedModel, ServerError, ServingUnavailable, TensorflowClient

SERVER = '''
"""A model server of one model that echoes; a batch that starts with -1 kills it, one with -2 never ends."""
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from batchyard.serving import client, tensors, wire
from batchyard.serving.protos import metadata_pb2, tensor_pb2

def metadata(data, context):
    signatures = metadata_pb2.SignatureDefMap()
    x = signatures.signature_def["serving_default"].inputs["x"]
    x.dtype = tensor_pb2.DT_FLOAT
    x.tensor_shape.dim.add(size=-1)
    answer = metadata_pb2.GetModelMetadataResponse()
    answer.metadata["signature_def"].value = signatures.SerializeToString()
    return answer.SerializeToString()

def predict(data, context):
    spec, inputs, _ = wire.read_request(data)
    x = tensors.decode(inputs["x"])
    print("predict", flush=True)
    if x[0] == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    if x[0] == -2:
        threading.Event().wait()
    return wire.write_response({"x": tensors.encode(x), "pid": tensors.encode(np.array(os.getpid()))}, spec)

class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        run = {client.PREDICT: predict, client.METADATA: metadata}.get(call.method)
        return run and grpc.unary_unary_rpc_method_handler(run)

server = grpc.server(ThreadPoolExecutor(8), handlers=[Handler()], options=[("grpc.so_reuseport", 0)])
assert server.add_insecure_port(sys.argv[1])
server.start()
print("ready", flush=True)
server.wait_for_termination()
'''

Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture(params=["unix socket", "tcp"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "unix socket":
        return f"unix:{tmp_path}/s.sock"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def start(target: str, tmp_path: Path) -> Iterator[Start]:
    """Start a server process and wait until it is ready; all are killed at the end."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen([sys.executable, script, target], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def client(target: str) -> Iterator[TensorflowClient]:
    client = TensorflowClient(target, [ServedModel("m", (1,))], deadline=60)
    yield client
    client.close()


def kill(process: "subprocess.Popen[str]") -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def pid(client: TensorflowClient, first: float = 1.0) -> int:
    return int(client.predict({"x": [first]})["pid"])


def in_background(work: Callable[[], object]) -> "Future[object]":
    """Run it in a thread that does not outlive the test's process."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is taken
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_a_client_made_before_its_server_waits_for_it(client: TensorflowClient, start: Start) -> None:
    waiting = in_background(client.check)
    process = start()
    waiting.result(timeout=30)
    assert pid(client) == process.pid


def test_a_predict_waits_while_the_killed_server_restarts(client: TensorflowClient, start: Start) -> None:
    first = start()
    assert pid(client) == first.pid
    for _ in range(3):
        kill(first)
        waiting = in_background(lambda: pid(client))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        first = start()
        assert waiting.result(timeout=30) == first.pid


def test_a_predict_whose_server_is_killed_under_it_runs_again(client: TensorflowClient, start: Start) -> None:
    first = start()
    hanging = in_background(lambda: pid(client, -2.0))
    assert first.stdout
    assert first.stdout.readline() == "predict\n"
    kill(first)
    second = start()
    assert second.stdout
    assert second.stdout.readline() == "predict\n"  # sent again, as it was
    assert not hanging.done()
    kill(second)


def test_a_batch_that_kills_every_server_is_given_up(client: TensorflowClient, start: Start) -> None:
    deadly = in_background(lambda: pid(client, -1.0))
    for _ in range(5):
        start().wait()
    with pytest.raises(ServerError, match="model 'm' version 1: the model server died 5 times under this predict"):
        deadly.result(timeout=30)
    alive = start()
    assert pid(client) == alive.pid


def test_threads_all_go_on_after_a_restart(client: TensorflowClient, start: Start) -> None:
    first = start()
    stop = threading.Event()

    def work(thread: int) -> int:
        done = 0
        while not stop.is_set():
            out = client.predict({"x": [thread + 1.0, done]})["x"]
            assert out.tolist() == [thread + 1.0, done]
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work, thread) for thread in range(4)]
        for _ in range(3):
            time.sleep(0.2)
            kill(first)
            first = start()
        time.sleep(0.2)
        stop.set()
        assert all(done.result(timeout=30) > 0 for done in running)


@pytest.mark.parametrize("away", ["never there", "killed"])
def test_a_server_that_stays_away_is_a_passing_fault(target: str, start: Start, away: str) -> None:
    client = TensorflowClient(target, [ServedModel("m", (1,))], deadline=0.5)
    if away == "killed":
        process = start()
        client.check()
        kill(process)
    with pytest.raises(ServingUnavailable) as caught:
        client.predict({"x": [1.0]})
    assert str(caught.value).startswith(f"the model server at {target} has not answered for 0.5 seconds: ")
    client.close()


def test_a_stopped_server_goes_on_where_it_was(client: TensorflowClient, start: Start) -> None:
    process = start()
    client.check()
    os.kill(process.pid, signal.SIGSTOP)
    waiting = in_background(lambda: pid(client))
    with pytest.raises(TimeoutError):
        waiting.result(timeout=1.5)
    os.kill(process.pid, signal.SIGCONT)
    assert waiting.result(timeout=30) == process.pid


def test_a_client_needs_no_tensorflow_and_starts_light() -> None:
    code = (
        "import sys; from batchyard.serving import client; "
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'tensorflow_serving', 'keras')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


def test_a_proxy_in_the_environment_is_not_asked(target: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "grpc_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    process = start()
    client = TensorflowClient(target, [ServedModel("m", (1,))], deadline=5)
    np.testing.assert_array_equal(client.predict({"x": [1.0]})["x"], [1.0])
    assert pid(client) == process.pid
    client.close()
