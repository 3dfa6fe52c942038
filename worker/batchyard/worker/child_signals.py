"""What SIGTERM and SIGINT do in a handler process, and in what user code forks from it.

Apart because the two differ: the worker alone ends a handler process, while a fork must end as any process does.
"""

import os
import signal


def install() -> None:
    """Let SIGTERM and SIGINT do nothing here, and end what user code forks (``multiprocessing.Pool.terminate``).

    They are held back across a fork: one that came before the fork has its usual ends back would be lost. Ends that
    the user's own code set are kept by its forks.
    """
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _ignore)
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release_in_fork)


def _ignore(_signum: int, _frame: object) -> None:
    """Do nothing; unlike SIG_IGN this is not inherited by programs that user code starts."""


def _hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))


def _release_in_fork() -> None:
    if signal.getsignal(signal.SIGTERM) is _ignore:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is _ignore:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _release()
