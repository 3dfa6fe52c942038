"""What a model server is told to load and how it is started; apart because two servers read the same words.

Our own server and TF Serving's ``tensorflow_model_server`` take the same config file and the same flags. TF Serving
ends on a flag that it doesn't know, so flags are chosen by its version; without a version, those of 2.3.0 are used.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.models.local import ServedModel

Version = tuple[int, int]
_OLDEST: Version = (2, 3)
_PORT_ZERO_IS_OFF: Version = (2, 6)
_TENSOR_CONTENT_FLAG: Version = (2, 19)
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.\d+)?")


def config_text(models: Sequence[ServedModel]) -> str:
    """Return the text of ``--model_config_file``: every version of every model is loaded.

    All, not the server's default of the latest alone: a handler may ask for any version, and ``latest`` must mean
    the same to each worker of a job.
    """
    entries = [
        "  config {\n"
        f"    name: {_quoted(model.name)}\n"
        f"    base_path: {_quoted(str(model.base_path))}\n"
        '    model_platform: "tensorflow"\n'
        "    model_version_policy { all {} }\n"
        "  }\n"
        for model in models
    ]
    return f"model_config_list {{\n{''.join(entries)}}}\n"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens. ``port`` must be a free one for TF Serving before 2.6, which can't turn TCP off.

    ``socket``: a unix socket's path of at most 107 bytes. ``rest_port``: for start-up probes; 0 turns it off.
    """

    port: int = 0
    socket: Path | None = None
    rest_port: int = 0


def server_arguments(
    config_file: Path, listen: Listen, *, threads: int | None = None, version: Version | None = None
) -> list[str]:
    """Return the flags for ``tensorflow_model_server`` of that version, or for our own server.

    ``threads``: CPU cores to use; TF Serving sees the host's cores and not a container's limit. ``version``: as
    ``server_version`` reads it; None when not known.
    """
    known = max(version or _OLDEST, _OLDEST)
    flags = [
        f"--model_config_file={config_file}",
        "--file_system_poll_wait_seconds=0",  # load once: a job's models don't change under it
    ]
    if listen.port or known >= _PORT_ZERO_IS_OFF:
        flags.append(f"--port={listen.port}")
    if listen.socket is not None:
        flags.append(f"--grpc_socket_path={listen.socket}")
    if listen.rest_port:
        flags.append(f"--rest_api_port={listen.rest_port}")
    if threads is not None:
        flags += [f"--tensorflow_intra_op_parallelism={threads}", f"--tensorflow_inter_op_parallelism={threads}"]
    if known >= _TENSOR_CONTENT_FLAG:
        flags.append("--enable_serialization_as_tensor_content=true")
    return flags


def server_version(text: str) -> Version | None:
    """Return major and minor of what ``tensorflow_model_server --version`` prints, None when it isn't there."""
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else None


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
