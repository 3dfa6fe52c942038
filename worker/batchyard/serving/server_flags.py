"""The server's command line: the flags of TF Serving's ``tensorflow_model_server``, read without any heavy import.

A wrong flag must be said before TensorFlow's seconds of start-up, and a command line written for TF Serving must
work here, so every flag of TF Serving is known: used, warned about where it changes nothing here, or refused where
going on without it would be unsafe.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchyard.api.errors import nearest

DEFAULT_PORT = 8500
_MAX_SOCKET_PATH = 107  # bytes in sockaddr_un without its closing zero, on Linux; macOS takes 103
_TRUE, _FALSE = ("true", "1", "t", "yes"), ("false", "0", "f", "no")

_USED: dict[str, type] = {
    "port": int,
    "grpc_socket_path": str,
    "rest_api_port": int,
    "host": str,
    "model_config_file": str,
    "model_base_path": str,
    "model_name": str,
    "tensorflow_intra_op_parallelism": int,
    "tensorflow_inter_op_parallelism": int,
    "tensorflow_session_parallelism": int,
    "grpc_max_threads": int,
    "enable_serialization_as_tensor_content": bool,
}
_SILENT: dict[str, type] = {  # models are loaded once, which is what a job needs
    "file_system_poll_wait_seconds": int,
    "model_config_file_poll_wait_seconds": int,
    "max_num_load_retries": int,
    "enable_grpc_healthcheck_service": bool,
}
_IGNORED: dict[str, type] = {
    "allow_version_labels_for_unavailable_models": bool,
    "batching_parameters_file": str,
    "enable_batching": bool,
    "enable_cors_support": bool,
    "enable_model_warmup": bool,
    "enable_per_model_batching_parameters": bool,
    "enable_profiler": bool,
    "enable_signature_method_name_check": bool,
    "flush_filesystem_caches": bool,
    "force_allow_any_version_labels_for_unavailable_models": bool,
    "grpc_channel_arguments": str,
    "load_retry_interval_micros": int,
    "mixed_precision": str,
    "monitoring_config_file": str,
    "num_load_threads": int,
    "num_request_iterations_for_warmup": int,
    "num_tflite_interpreters_per_pool": int,
    "num_tflite_pools": int,
    "num_unload_threads": int,
    "per_process_gpu_memory_fraction": float,
    "platform_config_file": str,
    "prefer_tflite_model": bool,
    "remove_unused_fields_from_bundle_metagraph": bool,
    "rest_api_enable_cors_support": bool,
    "rest_api_num_threads": int,
    "rest_api_timeout_in_ms": int,
    "saved_model_tags": str,
    "skip_initialize_tpu": bool,
    "tensorflow_session_config_file": str,
    "thread_pool_factory_config_file": str,
    "use_tflite_model": bool,
    "xla_cpu_compilation_enabled": bool,
}
_REFUSED = {"ssl_config_file": "this server speaks no TLS: listen on a unix socket or on loopback"}
_KNOWN = {**_USED, **_SILENT, **_IGNORED, **dict.fromkeys(_REFUSED, str)}


class FlagError(Exception):
    """A flag is wrong; the message says which, what was found and what is expected."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line asks for.

    ``port``, ``rest_api_port``: 0 is off. ``socket``: None is off. Exactly one of ``model_config_file`` and
    ``model_base_path`` is given. Threads: 0 leaves the number to TensorFlow. ``as_tensor_content``: False answers
    in ``*_val`` lists, as TF Serving before 2.19 does. ``warnings``: sentences about flags without effect.
    """

    port: int = DEFAULT_PORT
    socket: str | None = None
    rest_api_port: int = 0
    host: str = "127.0.0.1"
    model_config_file: Path | None = None
    model_base_path: Path | None = None
    model_name: str = "default"
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    grpc_threads: int = 8
    as_tensor_content: bool = True
    warnings: list[str] = field(default_factory=list)


def parse_flags(argv: Sequence[str]) -> Flags:
    """Return the flags of ``--name=value`` and ``--name value`` arguments. Raises FlagError."""
    given = _given(argv)
    values: dict[str, Any] = {name: _value(name, raw) for name, raw in given.items() if name in _USED}
    session_threads = values.get("tensorflow_session_parallelism", 0)
    flags = Flags(
        port=values.get("port", 0 if values.get("grpc_socket_path") else DEFAULT_PORT),
        socket=values.get("grpc_socket_path") or None,
        rest_api_port=values.get("rest_api_port", 0),
        host=values.get("host", "127.0.0.1"),
        model_config_file=_path(values.get("model_config_file")),
        model_base_path=_path(values.get("model_base_path")),
        model_name=values.get("model_name", "default"),
        intra_op_threads=values.get("tensorflow_intra_op_parallelism", session_threads),
        inter_op_threads=values.get("tensorflow_inter_op_parallelism", session_threads),
        grpc_threads=values.get("grpc_max_threads", max(8, 4 * (os.cpu_count() or 1))),
        as_tensor_content=values.get("enable_serialization_as_tensor_content", True),
        warnings=[f"--{name} has no effect in this server" for name in given if name in _IGNORED],
    )
    _check(flags)
    return flags


def _given(argv: Sequence[str]) -> dict[str, str]:
    """Return the raw value of each flag; the last one wins, as in TF Serving."""
    given: dict[str, str] = {}
    waiting = list(argv)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--") or argument == "--":
            raise FlagError(f"found {argument!r}, expected flags only: --name=value")
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        if name not in _KNOWN:
            near = nearest(name, _KNOWN)
            raise FlagError(f"there is no flag --{name}." + (f" Did you mean --{near}?" if near else ""))
        if name in _REFUSED:
            raise FlagError(f"--{name}: {_REFUSED[name]}.")
        if not equals:
            follows = waiting[0] if waiting else None
            if _KNOWN[name] is bool:
                value = waiting.pop(0) if follows is not None and follows.lower() in _TRUE + _FALSE else "true"
            elif follows is None or follows.startswith("--"):
                raise FlagError(f"--{name} needs a value: --{name}=VALUE")
            else:
                value = waiting.pop(0)
        given[name] = value
    return given


def _value(name: str, raw: str) -> int | str | bool:
    kind = _USED[name]
    if kind is int:
        if not raw.isascii() or not raw.isdigit():
            raise FlagError(f"--{name}: found {raw!r}, expected a whole number from 0")
        return int(raw)
    if kind is bool:
        if raw.lower() not in _TRUE + _FALSE:
            raise FlagError(f"--{name}: found {raw!r}, expected true or false")
        return raw.lower() in _TRUE
    return raw


def _path(raw: str | None) -> Path | None:
    return Path(raw).absolute() if raw else None


def _check(flags: Flags) -> None:
    for name, port in (("port", flags.port), ("rest_api_port", flags.rest_api_port)):
        if port > 65535:
            raise FlagError(f"--{name}: found {port}, expected a port from 0 (off) to 65535")
    if not flags.port and flags.socket is None:
        raise FlagError("nothing to listen on: give --port or --grpc_socket_path")
    if flags.port and flags.port == flags.rest_api_port:
        raise FlagError(f"--port and --rest_api_port are both {flags.port}, expected two ports")
    if flags.socket is not None and len(os.fsencode(flags.socket)) > _MAX_SOCKET_PATH:
        raise FlagError(
            f"--grpc_socket_path: the path has {len(os.fsencode(flags.socket))} bytes, and the system takes at most "
            f"{_MAX_SOCKET_PATH}: {flags.socket}"
        )
    if flags.grpc_threads < 1:
        raise FlagError("--grpc_max_threads: found 0, expected at least 1")
    if flags.model_config_file is None and flags.model_base_path is None:
        raise FlagError("no model to serve: give --model_base_path (with --model_name) or --model_config_file")
    if flags.model_config_file is not None and flags.model_base_path is not None:
        raise FlagError("found both --model_config_file and --model_base_path, expected one of them")
