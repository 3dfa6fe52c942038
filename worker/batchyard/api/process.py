"""Ties a process to the one that started it; apart, and below everything, because each of our mains calls it.

A runner killed with SIGKILL cannot stop its children, and a worker that outlives its runner would go on taking
batches that nobody watches. A parent that wants its children to go with it starts them with ``parent_death_env()``;
a child calls ``die_with_parent()`` first thing. A program that is not ours is started through this module:
``python -m batchyard.api.process PROGRAM ARGUMENT…`` ties itself and becomes the program.
"""

import ctypes
import os
import signal
import sys
import threading
import time

PARENT_DEATH = "BATCHYARD_PARENT_DEATH"
"""Holds the parent's pid; taken out of the environment by the child, so that no grandchild sees it."""

_PR_SET_PDEATHSIG = 1


def parent_death_env() -> dict[str, str]:
    """Return what a child's environment needs so that ``die_with_parent`` ties it to this process.

    Start the child from a thread that lives as long as this process: the kernel watches the thread.
    """
    return {PARENT_DEATH: str(os.getpid())}


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends; does nothing unless the parent asked for it.

    Linux: PR_SET_PDEATHSIG, which an exec keeps. Elsewhere a thread looks twice a second who the parent is.
    """
    asked = os.environ.pop(PARENT_DEATH, "")
    if not asked.isdigit():
        return
    parent = int(asked)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if parent > 1 and os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - becoming the program named on the command line is the job
