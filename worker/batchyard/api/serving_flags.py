"""The command line of a model server, by its version; down here because the operator writes it as the runner does.

TF Serving's ``tensorflow_model_server`` ends on a flag that it doesn't know, so flags are chosen by its version;
without a version, those of 2.3.0 are used. Our own server takes the same ones.
"""

import os
import re
from dataclasses import dataclass

Version = tuple[int, int]
_OLDEST: Version = (2, 3)
_PORT_ZERO_IS_OFF: Version = (2, 6)
_TENSOR_CONTENT_FLAG: Version = (2, 19)
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens. ``port`` must be a free one for TF Serving before 2.6, which can't turn TCP off.

    ``socket``: a unix socket's path of at most 107 bytes. ``rest_port``: for start-up probes; 0 turns it off.
    """

    port: int = 0
    socket: str | os.PathLike[str] | None = None
    rest_port: int = 0


def server_arguments(
    config_file: str | os.PathLike[str],
    listen: Listen,
    *,
    threads: int | None = None,
    version: Version | None = None,
) -> list[str]:
    """Return the flags for ``tensorflow_model_server`` of that version, or for our own server.

    ``threads``: CPU cores to use; TF Serving sees the host's cores and not a container's limit. ``version``: as
    ``server_version`` reads it; None when not known.
    """
    known = max(version or _OLDEST, _OLDEST)
    flags = [
        f"--model_config_file={os.fspath(config_file)}",
        "--file_system_poll_wait_seconds=0",  # load once: a job's models don't change under it
        "--max_num_load_retries=0",  # the default is 5, a minute apart: a broken model would be told 5 minutes late
    ]
    if listen.port or known >= _PORT_ZERO_IS_OFF:
        flags.append(f"--port={listen.port}")
    if listen.socket is not None:
        flags.append(f"--grpc_socket_path={os.fspath(listen.socket)}")
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
