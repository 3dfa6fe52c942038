"""Reads the workers' logs along for the terminal, bounded: a million printed lines must not stop the runner.

The files hold JSON lines with everything; the terminal gets what the handler wrote, and what is wrong.
"""

from pathlib import Path

import orjson

_CHUNK = 4 * 1024 * 1024
_LONGEST_LINE = 2000


class Tail:
    """Follows one log from where it ends now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def read(self, limit: int) -> tuple[list[str], int]:
        """Return up to ``limit`` whole new lines, and how many more there were. Reads 4 MiB at most."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._offset)
                new = log.read(_CHUNK)
        except FileNotFoundError:
            return [], 0
        if not new:
            return [], 0
        self._offset += len(new)
        head, newline, rest = (self._rest + new).rpartition(b"\n")
        self._rest = rest[-_CHUNK:]
        if not newline:
            return [], 0
        total = head.count(b"\n") + 1
        taken = head.split(b"\n", limit)[:limit]
        return [line[:_LONGEST_LINE].decode(errors="replace") for line in taken], total - len(taken)


def line_for_terminal(raw: str, *, name_worker: bool) -> str | None:
    """Return a log line as a person reads it; None for a worker's own word that all is well.

    ``name_worker``: whether there are several, so that a line must say whose it is.
    """
    try:
        fields = orjson.loads(raw)
        message = str(fields["message"])
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return raw.rstrip()  # a crash of the worker itself
    is_users = "stream" in fields
    level = fields.get("level", "INFO")
    if not is_users and level in ("DEBUG", "INFO"):
        return None
    if not is_users:  # a traceback is told once, at the end
        message = message.partition("\n")[0]
    batch = fields.get("batch")
    place = [str(fields.get("worker", ""))] if name_worker else []
    if batch is not None and is_users:
        place.append("on_job_complete" if batch == -1 else f"batch {batch}")
    mark = "" if is_users and level in ("DEBUG", "INFO") else f"{level}: "
    return f"{' '.join(place)}{' | ' if place else ''}{mark}{message}"
