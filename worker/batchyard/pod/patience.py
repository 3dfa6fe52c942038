"""Trying again what fails by nobody's fault. Apart because all that a pod does needs it, and decides how long."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from batchyard.api.errors import TransientError
from batchyard.queue.port import QueueUnavailable

T = TypeVar("T")

LONGEST = 600.0
"""Seconds of trouble with a store or a disk after which the pod gives up; another node may do better."""

_FIRST_PAUSE, _LAST_PAUSE = 0.1, 10.0  # seconds


def patiently(call: Callable[[], T], say: Callable[[str, str], None], *, limit: float = LONGEST) -> T:
    """Call until it succeeds, with growing pauses; after ``limit`` seconds of failures the last one is raised.

    A queue that does not answer is waited for without limit: every pod of the job waits with this one.
    """
    began, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            return call()
        except TransientError as error:
            is_queue = isinstance(error, QueueUnavailable)
            if not is_queue and time.monotonic() - began > limit:
                raise
            what = "the queue does not answer" if is_queue else "not possible now"
            say("WARNING", f"{what}, trying again: {error}")
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
        pause = min(_LAST_PAUSE, pause * 2)
