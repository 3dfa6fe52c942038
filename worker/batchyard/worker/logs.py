"""What a worker writes to its standard output: one line a line, with the batch it belongs to.

JSON lines for a log collector, plain text for a terminal. Written by the worker alone, so lines never mix.
"""

import json
import os
import time
from collections.abc import Mapping

import orjson

from batchyard.worker.tags import Line


class Log:
    """Writes lines to descriptor 1. ``form`` is ``json`` or ``text``."""

    def __init__(self, form: str, job: str, worker: str) -> None:
        self._is_json = form == "json"
        self._job = job
        self._worker = worker
        self._pending = bytearray()

    def user(self, process: int, stream: str, line: Line) -> None:
        """Write one line of a handler process."""
        level = line.level or ("INFO" if stream == "stdout" else "ERROR")
        fields: dict[str, object] = {"process": process, "stream": stream}
        if line.batch is not None:
            fields |= {"batch": line.batch, "attempt": line.attempt}
        self._line(level, line.text, fields)

    def say(self, level: str, message: str, **fields: object) -> None:
        """Write one line of the worker's own."""
        self._line(level, message, fields)
        self.flush()

    def flush(self) -> None:
        """Write out what is pending; a reader that is gone loses the log, never the job."""
        view = memoryview(bytes(self._pending))
        self._pending.clear()
        while view:
            try:
                view = view[os.write(1, view) :]
            except OSError:
                return

    def _line(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        now = time.time()
        if self._is_json:
            record = {"time": round(now, 3), "level": level, "job": self._job, "worker": self._worker, **fields}
            try:
                self._pending += orjson.dumps({**record, "message": message}, default=str) + b"\n"
            except TypeError:  # a user's error text may hold what UTF-8 cannot: lone surrogates
                self._pending += json.dumps({**record, "message": message}, default=str).encode() + b"\n"
        else:
            clock = time.strftime("%H:%M:%S", time.localtime(now))
            batch = fields.get("batch")
            where = "" if batch is None else " on_job_complete" if batch == -1 else f" batch {batch}"
            mark = "" if level in ("INFO", "DEBUG") else f" {level}"
            text = f"{clock} {self._worker}{where}{mark} | {message}\n"
            self._pending += text.encode("utf-8", "replace")
        if len(self._pending) > 1 << 16:
            self.flush()
