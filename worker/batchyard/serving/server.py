"""``python -m batchyard.serving.server``: serves SavedModels with TF Serving's gRPC API and flags, on one machine.

For where TF Serving's own binary is not: it has none for macOS, Windows and ARM. Ports open once every model is
loaded; a model that can't be loaded ends the server with one sentence each. Exit codes: 0 after SIGTERM or SIGINT
(calls in flight finish first), 1 a model or a port failed, 2 the command line or the config file is wrong.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import grpc

from batchyard.api.process import die_with_parent
from batchyard.serving.server_api import ServingApi
from batchyard.serving.server_flags import FlagError, Flags, parse_flags
from batchyard.serving.server_model_config import ModelConfigError, models_to_serve
from batchyard.serving.server_models import Models, RpcError, load_models
from batchyard.serving.server_rest import serve as serve_rest

log = logging.getLogger("batchyard.serving.server")

STOP_GRACE_SECONDS = 30.0
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # otherwise a second server on the same port would share its calls in silence
)


class StartError(Exception):
    """The server can't open what it was told to listen on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, which end the process; return the exit code of a failed start.

    ``argv``: the flags, without the program's name.
    """
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s model server: %(message)s", stream=sys.stderr)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        flags = parse_flags(arguments)
        for warning in flags.warnings:
            log.warning("%s", warning)
        models = models_to_serve(flags)
    except (FlagError, ModelConfigError) as error:
        return _refuse(error, 2)
    try:
        _check_free(flags)
        loaded = load_models(models, flags.intra_op_threads, flags.inter_op_threads)
        server = build(ServingApi(loaded, as_tensor_content=flags.as_tensor_content), flags.grpc_threads)
        _listen(server, loaded, flags)
    except (ModelConfigError, StartError) as error:
        return _refuse(error, 1)
    return _serve_until_signal(server, flags)


def build(api: ServingApi, threads: int) -> grpc.Server:
    """Return a gRPC server, not yet started, that answers TF Serving's paths with ``api``."""
    server = grpc.server(ThreadPoolExecutor(threads, thread_name_prefix="call"), options=_OPTIONS)
    predictions = {"Predict": _handler(api.predict), "GetModelMetadata": _handler(api.metadata)}
    statuses = {"GetModelStatus": _handler(api.status)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", predictions),
            grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", statuses),
        )
    )
    return server


def _handler(call: Callable[[bytes], bytes]) -> grpc.RpcMethodHandler:
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if not context.is_active():  # its caller gave up while it waited for a thread
            return b""
        try:
            return call(request)
        except RpcError as error:
            context.abort(error.code, error.details)
            raise  # for the type checker: abort never returns

    return grpc.unary_unary_rpc_method_handler(answer)  # no (de)serializer: bytes in, bytes out


def _check_free(flags: Flags) -> None:
    """Say that a port or socket is taken before TensorFlow's seconds of start-up, and remove a stale socket.

    Raises StartError.
    """
    for port in filter(None, (flags.port, flags.rest_api_port)):
        with socket.socket(socket.AF_INET6 if ":" in flags.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((flags.host, port))
            except OSError as error:
                raise StartError(f"can't listen on {flags.host}:{port}: {error.strerror}.") from error
    if flags.socket is None:
        return
    path = Path(flags.socket)
    if not path.parent.is_dir():
        raise StartError(f"--grpc_socket_path: there is no folder {path.parent}.")
    if not path.exists():
        return
    if not path.is_socket():
        raise StartError(f"--grpc_socket_path: {path} is there and is no socket.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(flags.socket)
        except OSError:
            path.unlink(missing_ok=True)  # left by a server that was killed
        else:
            raise StartError(f"--grpc_socket_path: another process listens on {path}.")


def _listen(server: grpc.Server, models: Models, flags: Flags) -> None:
    """Open every port and start. Raises StartError."""
    host = f"[{flags.host}]" if ":" in flags.host else flags.host
    addresses = [f"{host}:{flags.port}"] if flags.port else []
    if flags.socket is not None:
        addresses.append(f"unix:{flags.socket}")
    for address in addresses:
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise StartError(f"can't listen on {address}: it is taken, or not an address of this machine.")
    server.start()
    if flags.rest_api_port:
        try:
            serve_rest(models, flags.host, flags.rest_api_port)
        except OSError as error:
            raise StartError(f"can't listen on {flags.host}:{flags.rest_api_port}: {error.strerror}.") from error
        addresses.append(f"http://{host}:{flags.rest_api_port}")
    log.info("serving %s on %s", ", ".join(sorted(models.loaded)) or "no model", ", ".join(addresses))


def _serve_until_signal(server: grpc.Server, flags: Flags) -> NoReturn:
    """Wait for a signal, let calls in flight finish, end with 0. A second signal ends at once."""
    asked = threading.Event()
    own_socket = _inode(flags.socket)

    def stop(number: int, _: object) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not asked.wait(3600):
        pass
    log.info("stopping: calls in flight finish first")
    stopped = server.stop(STOP_GRACE_SECONDS)
    began = time.monotonic()
    while not stopped.wait(0.2) and time.monotonic() - began < STOP_GRACE_SECONDS + 5:
        pass
    if flags.socket is not None and _inode(flags.socket) == own_socket:  # not one that a successor opened since
        Path(flags.socket).unlink(missing_ok=True)
    logging.shutdown()
    os._exit(0)  # an ordinary exit would wait for the thread of a call that outlived the grace


def _inode(path: str | None) -> int | None:
    try:
        return Path(path).stat().st_ino if path is not None else None
    except FileNotFoundError:
        return None


def _refuse(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        sys.stderr.write(f"model server: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
