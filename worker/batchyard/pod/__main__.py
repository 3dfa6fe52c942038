"""``python -m batchyard.pod fetch|enqueue``: what runs in a pod before its worker, and in the enqueuer's pod.

Exit codes: 0 done; 64 what the user wrote is wrong, and the job is halted with the reason; 143 after SIGTERM; 1
anything else. The sentence is the last line of standard error and the container's termination message.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from batchyard.api.errors import BatchyardError, InvalidError
from batchyard.api.last_words import leave_word
from batchyard.api.status import Reason
from batchyard.enqueue.publish import Outcome
from batchyard.pod import stopping
from batchyard.pod.fetch import Say, blamed_on, fetch
from batchyard.pod.patience import patiently
from batchyard.pod.places import Places
from batchyard.pod.publishing import publish
from batchyard.pod.told import Told, read, refuse_what_pods_lack
from batchyard.queue.engines import open_queue
from batchyard.queue.port import Queue
from batchyard.worker.logs import Log

DONE, FAILED, INVALID = 0, 1, 64


def main(arguments: list[str]) -> int:
    """Run one of the two commands and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m batchyard.pod")
    parser.add_argument("command", choices=["fetch", "enqueue"])
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    stopping.end_on_signals()
    os.umask(0o002)  # the pod's containers may run as users of their own, with one group
    try:
        told = read(Places(given.root.absolute()))
        log = Log("json", told.job.metadata.name, told.pod)
        queue = patiently(lambda: open_queue(told.file.queue, owner=told.pod), log.say)
    except BatchyardError as error:  # also an engine that is not installed: there is no queue to tell
        return _ended(FAILED, str(error))
    with closing(queue):
        return _run(fetch if given.command == "fetch" else _enqueue, told, queue, log.say)


def _run(command: Callable[[Told, Queue, Say], int], told: Told, queue: Queue, say: Say) -> int:
    try:
        return command(told, queue, say)
    except InvalidError as error:
        reason, sentence = error.reason, str(error)
        try:
            patiently(lambda: queue.halt(reason, sentence), say)
        except BatchyardError as lost:
            say("ERROR", f"the queue could not be told: {lost}")
        return _ended(INVALID, sentence)
    except BatchyardError as error:
        return _ended(FAILED, str(error))
    except OSError as error:  # of the pod's own volume; another node may do better
        return _ended(FAILED, f"{error.filename or told.places.mnt}: {error.strerror or error}")


def _enqueue(told: Told, queue: Queue, say: Say) -> int:
    if told.job.spec.input.kind == "items":
        say("INFO", "the items stand in the manifest: the first worker publishes them")
        return DONE
    halt = patiently(queue.state, say).halt
    if halt is None:
        refuse_what_pods_lack(told.job)
        with blamed_on(Reason.INPUT_INVALID):
            outcome = publish(told, queue, say)
        if outcome is Outcome.SEALED:
            return DONE
    return _ended(FAILED, "the job was stopped before its input was enqueued")


def _ended(code: int, sentence: str) -> int:
    leave_word(sentence)
    sys.stderr.write(" ".join(sentence.split("\n")) + "\n")
    return code


if __name__ == "__main__":
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text stream here
    sys.exit(main(sys.argv[1:]))
