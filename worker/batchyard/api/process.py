"""What every process of ours does at its start, whoever its parent is; apart because all layers start processes."""

import ctypes
import os
import signal
import sys

PARENT_DEATH = "BATCHYARD_PARENT_DEATH"
"""Environment variable that a parent sets to its own pid: the child is to die with it."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Let the kernel SIGKILL this process when the parent named in ``BATCHYARD_PARENT_DEATH`` ends (Linux only).

    The signal fires when the *thread* that started this process ends, so parents start children from a thread that
    lives as long as they do. A parent that died before this call is seen by the pid and ends this process at once.
    """
    parent = os.environ.get(PARENT_DEATH, "")
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent.isdigit() and int(parent) > 1 and os.getppid() != int(parent):
        os._exit(1)
