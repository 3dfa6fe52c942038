"""The enqueuer process: ``python -m batchyard.enqueue SETTINGS.json``.

Exit codes: 0 the queue is sealed; 64 the input is invalid: the job is halted with the reason, which is also the last
line of standard error, as plain text; 143 after SIGTERM; 1 anything else. Started again it goes on where it stopped.
"""

import json
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from batchyard.api.errors import BatchyardError
from batchyard.api.process import die_with_parent
from batchyard.enqueue.publish import Outcome, Stopped, enqueue, patiently
from batchyard.enqueue.settings import EnqueueSettings
from batchyard.enqueue.split import InputInvalid
from batchyard.queue.engines import open_queue
from batchyard.queue.port import Queue

INVALID = 64
TERMINATED = 143


class Log:
    """Writes lines to standard error: JSON for a log collector, plain text for a terminal."""

    def __init__(self, form: str) -> None:
        self._is_json = form == "json"

    def say(self, level: str, message: str) -> None:
        """Write one line; a reader that is gone loses the log, never the job."""
        if self._is_json:
            line = json.dumps({"time": round(time.time(), 3), "level": level, "message": message}, ensure_ascii=False)
        else:
            line = message if level == "INFO" else f"{level} {message}"
        try:
            sys.stderr.write(line.replace("\n", " ") + "\n")
            sys.stderr.flush()
        except OSError:
            return


def main(path: str) -> int:
    """Run the enqueuer and return its exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        settings = EnqueueSettings.model_validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        Log("text").say("ERROR", f"settings {path}: {error}")
        return 1
    log = Log(settings.log_format)
    try:
        queue = patiently(lambda: open_queue(settings.queue, owner="enqueuer"), stop, log.say)
        with closing(queue):
            return _enqueue(queue, settings, stop, log)
    except Stopped:
        return TERMINATED
    except BatchyardError as error:
        log.say("ERROR", str(error))
        return 1


def _enqueue(queue: Queue, settings: EnqueueSettings, stop: threading.Event, log: Log) -> int:
    try:
        outcome = enqueue(queue, settings, stop, log.say)
    except InputInvalid as error:
        sentence = str(error)
        patiently(lambda: queue.halt(InputInvalid.reason, sentence), stop, log.say)
        Log("text").say("INFO", sentence)  # for whoever shows the last line of a process that ended with 64
        return INVALID
    if outcome is Outcome.HALTED:
        log.say("INFO", "the job was stopped before its input was enqueued")
        return 1
    return 0 if outcome is Outcome.SEALED else TERMINATED


if __name__ == "__main__":
    die_with_parent()
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text stream here
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else "usage: python -m batchyard.enqueue SETTINGS.json")
