"""What a predict through the client costs, beside the calls it stands for.

One SavedModel of convolutions, sized here to about 10 ms a batch, is called in four ways, in turns: directly in this
process; by our client; by a bare gRPC loop with the official classes and ``tensor_content``; and the way that is
found in most examples (make_tensor_proto, MessageToDict of answers in lists, GetModelStatus each time). The served
ones ask `python -m batchyard.serving.server` over a unix socket. All run with the same threads an operation. A ratio
is the median over the rounds of the ratio within each.

The size of the input matters as much as the time of the model: gRPC itself moves about 1 GB/s. Here a batch holds
what a 224 x 224 image in float32 does.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # in both processes, as in the Makefile

import grpc
import numpy as np
import tensorflow as tf
from batchyard.serving.client import ServedModel, TensorflowClient
from google.protobuf.json_format import MessageToDict
from report import Claim, report
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

BATCH_SECONDS = 0.010
SHAPE = (12, 64, 64, 3)  # 0.6 MB in
CLASSES = 1000  # 0.05 MB out
CALLS, ROUNDS = 10, 21
THREADS = os.cpu_count() or 1
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

Predict = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="by") as folder:
        path = Path(folder)
        direct = calibrated(path / "model" / "1", x)
        servers = [serve(path, "content"), serve(path, "lists")]
        try:
            measure(path, x, direct)
        finally:
            for server in servers:
                server.kill()
                server.wait()


def measure(path: Path, x: np.ndarray, direct: Predict) -> None:
    client = TensorflowClient(f"unix:{path}/content.sock", [ServedModel("m", (1,))], deadline=60)
    client.check()

    def ours(x: np.ndarray) -> np.ndarray:
        return client.predict({"x": x})["y"]

    bare = official(f"unix:{path}/content.sock")
    naive = old_way(f"unix:{path}/lists.sock")
    expected = direct(x)
    for predict in (ours, bare, naive):
        np.testing.assert_allclose(predict(x), expected, rtol=1e-3, atol=1e-4)
    rates: dict[str, list[float]] = {"direct": [], "ours": [], "two": [], "bare": [], "naive": []}
    with ThreadPoolExecutor(2) as pool:
        for turn in range(ROUNDS + 2):
            found = {
                "direct": rate(direct, x, CALLS),
                "ours": rate(ours, x, CALLS),
                "bare": rate(bare, x, CALLS),
                "two": rate_of_two(pool, ours, x),
                "naive": rate(naive, x, 1),
            }
            if turn >= 2:  # the first two warm up
                for way, value in found.items():
                    rates[way].append(value)
    client.close()
    batch = 1000 / median(rates["direct"])
    print(f"direct {batch:.1f} ms a batch, {THREADS} threads an operation, load {os.getloadavg()[0]:.1f}")
    claims = [
        Claim("predict, one in flight / bare gRPC loop", ratio(rates["ours"], rates["bare"]), "x", ">=", 0.95),
        Claim("predict, one in flight / direct calls", ratio(rates["ours"], rates["direct"]), "x", ">=", 0.80),
        Claim("predict, two in flight / direct calls", ratio(rates["two"], rates["direct"]), "x", ">=", 1.0),
        Claim("bare gRPC loop / direct calls", ratio(rates["bare"], rates["direct"]), "x"),
        Claim("naive way / direct calls", ratio(rates["naive"], rates["direct"]), "x"),
    ]
    claims += [Claim(f"predict client: {way}", median(found), "batches/s") for way, found in rates.items()]
    report(claims)


def ratio(ours: list[float], theirs: list[float]) -> float:
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def rate(predict: Predict, x: np.ndarray, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        predict(x)
    return calls / (time.perf_counter() - start)


def rate_of_two(pool: ThreadPoolExecutor, predict: Predict, x: np.ndarray) -> float:
    start = time.perf_counter()
    for done in [pool.submit(rate, predict, x, CALLS) for _ in range(2)]:
        done.result()
    return 2 * CALLS / (time.perf_counter() - start)


# --- the ways ---


def calibrated(folder: Path, x: np.ndarray) -> Predict:
    """Export a model that takes about BATCH_SECONDS a batch here, and return its direct call."""

    def seconds(blocks: int) -> tuple[float, Predict]:
        export(folder, blocks)
        call = tf.saved_model.load(str(folder)).signatures["serving_default"]

        def predict(x: np.ndarray) -> np.ndarray:
            return call(x=tf.constant(x))["y"].numpy()

        rate(predict, x, 5)
        return median(1 / rate(predict, x, 3) for _ in range(9)), predict

    few, _ = seconds(2)
    many, _ = seconds(10)
    block = max((many - few) / 8, 1e-5)
    return seconds(max(1, round(2 + (BATCH_SECONDS - few) / block)))[1]


def export(folder: Path, blocks: int) -> None:
    random = np.random.default_rng(0)
    module = tf.Module()
    shapes = [(4, 4, 3, 32), *[(3, 3, 32, 32)] * blocks]
    module.kernels = [
        tf.Variable(random.standard_normal(s) / np.sqrt(np.prod(s[:3])), dtype=tf.float32) for s in shapes
    ]
    module.head = tf.Variable(random.standard_normal((32, CLASSES)), dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, *SHAPE[1:]), tf.float32, name="x")])
    def call(x):  # type: ignore[no-untyped-def]  # TensorFlow has no types
        for number, kernel in enumerate(module.kernels):
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 4 if number == 0 else 1, "SAME"))
        return {"y": tf.reduce_mean(x, [1, 2]) @ module.head}

    tf.saved_model.save(module, str(folder), signatures=call)


def official(target: str) -> Predict:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(target, options=UNLIMITED))

    def predict(x: np.ndarray) -> np.ndarray:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["x"].dtype = 1
        for size in x.shape:
            request.inputs["x"].tensor_shape.dim.add(size=size)
        request.inputs["x"].tensor_content = x.tobytes()
        y = stub.Predict(request).outputs["y"]
        return np.frombuffer(y.tensor_content, np.float32).reshape([dim.size for dim in y.tensor_shape.dim])

    return predict


def old_way(target: str) -> Predict:
    channel = grpc.insecure_channel(target, options=UNLIMITED)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(x: np.ndarray) -> np.ndarray:
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "m"
        models.GetModelStatus(status)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(x.tolist(), tf.float32))
        y = MessageToDict(stub.Predict(request))["outputs"]["y"]
        shape = [int(dim["size"]) for dim in y["tensorShape"]["dim"]]
        return np.array(y["floatVal"], np.float32).reshape(shape)

    return predict


def serve(path: Path, answers: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "batchyard.serving.server", f"--grpc_socket_path={path}/{answers}.sock"]
    command += ["--model_name=m", f"--model_base_path={path}/model", f"--tensorflow_intra_op_parallelism={THREADS}"]
    command += [f"--enable_serialization_as_tensor_content={str(answers == 'content').lower()}"]
    with (path / f"{answers}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


if __name__ == "__main__":
    main()
