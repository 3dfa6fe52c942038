"""The sentence with which a process of a pod ends, where Kubernetes keeps it: the container's termination message.

Apart, and down here, because the worker's main and the pods' both write it. Somewhere else than in a pod the file is
not there, and nothing is written.
"""

import contextlib
import os
from pathlib import Path

PLACE = "/dev/termination-log"
PLACE_VARIABLE = "BATCHYARD_TERMINATION_LOG"
"""Names another file, for containers with a ``terminationMessagePath`` of their own."""

MOST_BYTES = 4096  # the kubelet drops the rest


def leave_word(text: str) -> None:
    """Write why this process ends; a file that is missing or not writable loses the word, never the exit code."""
    place = Path(os.environ.get(PLACE_VARIABLE) or PLACE)
    with contextlib.suppress(OSError):
        if place.is_file():
            place.write_bytes(shortened(text, MOST_BYTES))


def shortened(text: str, most: int) -> bytes:
    """Return at most ``most`` bytes of UTF-8: the beginning, which says what is wrong, and an ellipsis."""
    content = text.encode("utf-8", "replace")
    if len(content) <= most:
        return content
    return content[: most - 3].decode("utf-8", "ignore").encode() + "…".encode()
