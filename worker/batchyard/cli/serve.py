"""``batchyard serve``: the model server, in this process."""

from collections.abc import Sequence


def serve_command(flags: Sequence[str]) -> int:
    """Serve until a signal; return the exit code of a failed start."""
    from batchyard.serving.server import main

    return main(list(flags))
