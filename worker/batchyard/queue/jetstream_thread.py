"""The thread of this process on which all talk with NATS runs, so that the port's calls can be plain ones."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from batchyard.queue.jetstream_wire import Wire

T = TypeVar("T")


class LoopThread:
    """An event loop that runs for as long as the process, and the connections that live on it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.wires: dict[tuple[str, ...], Wire] = {}
        threading.Thread(target=self.loop.run_forever, name="batchyard-nats", daemon=True).start()


_thread: LoopThread | None = None
_lock = threading.Lock()


def current() -> LoopThread:
    """Return this process's thread; a child after a fork gets one of its own."""
    global _thread  # noqa: PLW0603 - one a process
    with _lock:
        if _thread is None or _thread.pid != os.getpid():
            _thread = LoopThread()
        return _thread


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the thread and return what it returns; cancelled when the caller is interrupted."""
    future = asyncio.run_coroutine_threadsafe(coroutine, current().loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
