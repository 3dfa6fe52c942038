"""What a tensor costs on its way into a request and out of an answer: 40 MB of float32, oldest and newest protobuf.

Each way is measured whole: from an array to the bytes that gRPC sends, and from the bytes that gRPC gives to an array
of its own memory. Copying the same bytes once (memcpy) stands beside it, as what no codec beats; so does the typed
way, which is what one writes with the generated classes alone.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from batchyard.serving import tensors, wire
from batchyard.serving.protos import model_pb2, predict_pb2, tensor_pb2
from report import Claim, report

VALUES = 10_000_000
MEGABYTES = VALUES * 4 / 1e6
ROUNDS = 7
OLDEST = "4.25"
TARGET = 0.5


def main() -> None:
    claims = []
    for protobuf, folder in (("oldest", oldest_protobuf()), ("newest", None)):
        environment = {**os.environ, **({"PYTHONPATH": str(folder)} if folder else {})}
        output = subprocess.run(
            [sys.executable, __file__, "--measure"], env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        found = json.loads(output)
        version = f"protobuf {found['version']}"
        print(f"{protobuf} {version}: memcpy {found['memcpy']:.3f} ms/MB")
        for way in ("encode", "decode tensor_content", "decode float_val"):
            claims.append(Claim(f"codec, {version}: {way}", found[way], "ms/MB", "<=", TARGET))
        for way in ("memcpy", "typed encode", "typed decode tensor_content", "typed decode float_val"):
            claims.append(Claim(f"codec, {version}: {way}", found[way], "ms/MB", "<="))
    report(claims)


def oldest_protobuf() -> Path:
    """Return a folder with the oldest supported protobuf, installed beside the environment the first time."""
    folder = Path(__file__).parents[1] / ".work" / f"protobuf-{OLDEST}"
    if not (folder / "google" / "protobuf").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        subprocess.run([*command, f"protobuf=={OLDEST}.*"], check=True)
    return folder


def measure() -> dict[str, float | str]:
    """Return the median of each way in ms/MB, all ways once a round."""
    import google.protobuf

    array = np.random.default_rng(0).standard_normal(VALUES).astype(np.float32)
    spec = model_pb2.ModelSpec(name="m").SerializeToString()
    content = wire.write_response({"y": tensors.encode(array)}, spec)
    head = tensor_pb2.TensorProto(dtype=tensor_pb2.DT_FLOAT, tensor_shape={"dim": [{"size": VALUES}]})
    listed = [head.SerializeToString(), wire.header(5, array.nbytes), array.view(np.uint8).data]
    lists = wire.write_response({"y": listed}, spec)
    ways: dict[str, Callable[[], object]] = {
        "memcpy": array.copy,
        "encode": lambda: wire.write_request(spec, {"x": tensors.encode(array)}),
        "decode tensor_content": lambda: decoded(content),
        "decode float_val": lambda: decoded(lists),
        "typed encode": lambda: typed_request(array),
        "typed decode tensor_content": lambda: np.frombuffer(parsed(content).tensor_content, np.float32).copy(),
        "typed decode float_val": lambda: np.array(parsed(lists).float_val, np.float32),
    }
    for way in ("decode tensor_content", "decode float_val"):
        assert np.array_equal(ways[way](), array)  # type: ignore[arg-type]  # these two give arrays
    assert predict_pb2.PredictRequest.FromString(ways["encode"]()).inputs["x"].tensor_content == array.tobytes()  # type: ignore[arg-type]  # bytes
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(ROUNDS + 1):
        for way, run in ways.items():
            if way == "typed decode float_val" and turn > 2 and taken[way][-1] > 0.3:
                continue  # a second and more a turn with an old protobuf, and here for the record only
            start = time.perf_counter()
            run()
            if turn:  # the first is to warm up
                taken[way].append(time.perf_counter() - start)
    return {"version": google.protobuf.__version__} | {
        way: median(times) * 1000 / MEGABYTES for way, times in taken.items()
    }


def decoded(answer: bytes) -> object:
    found, _ = wire.read_response(answer)
    return tensors.decode(found["y"])


def parsed(answer: bytes) -> tensor_pb2.TensorProto:
    return predict_pb2.PredictResponse.FromString(answer).outputs["y"]


def typed_request(array: np.ndarray) -> bytes:
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="m"))
    request.inputs["x"].dtype = tensor_pb2.DT_FLOAT
    request.inputs["x"].tensor_shape.dim.add(size=VALUES)
    request.inputs["x"].tensor_content = array.tobytes()
    return request.SerializeToString()


if __name__ == "__main__":
    if "--measure" in sys.argv:
        print(json.dumps(measure()))
    else:
        main()
