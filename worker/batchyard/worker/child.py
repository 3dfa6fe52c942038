"""A handler process: the only place where user code runs. Its command line is ``child FD SLOTS CRASH``.

It is its own program (not a fork) so that a segfault, an ``os._exit``, a leak or a held GIL costs one attempt of one
batch. It imports little: start-up and memory count once a process.
"""

import contextlib
import fcntl
import json
import mmap
import os
import queue
import resource
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchyard.api import names
from batchyard.api.errors import InvalidError, TransientError
from batchyard.api.messages import decode_header, decode_items
from batchyard.api.process import die_with_parent
from batchyard.worker import child_signals, frames, tags
from batchyard.worker.frames import Frame, Kind

SLOT = struct.Struct("<dQ")
_DETAIL_BYTES = 16_000


def _move_high(fd: int) -> int:
    """Move a descriptor of ours where user code that closes all of them, up to some small number, does not hit it."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(soft, 1024) - 24 if soft > 64 else 16)
    os.close(fd)
    return high


class Channel:
    """The child's end of the wire; frames go out whole, one thread at a time."""

    def __init__(self, fd: int) -> None:
        high = _move_high(fd)
        self._socket = socket.socket(fileno=high)
        self._inode = os.fstat(high).st_ino
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._reader = frames.Reader()
        self._ready: list[Frame] = []

    def send(self, kind: Kind, seq: int, body: bytes) -> None:
        """Send one frame. A fork of user code stays silent; a wire that user code closed ends the process."""
        if os.getpid() != self._pid:
            os._exit(70)
        with self._lock:
            try:
                if os.fstat(self._socket.fileno()).st_ino != self._inode:
                    os._exit(70)
                self._socket.sendall(frames.header(kind, seq, len(body)))
                if body:
                    self._socket.sendall(body)
            except OSError:
                os._exit(70)  # the worker is gone or the descriptor was closed: nobody can hear us

    def send_json(self, kind: Kind, seq: int, value: object) -> None:
        """Send a small value as JSON, in ASCII: an error's text may hold lone surrogates."""
        self.send(kind, seq, json.dumps(value).encode())

    def receive(self) -> Frame:
        """Return the next frame; ends the process when the worker is gone."""
        while not self._ready:
            try:
                data = self._socket.recv(1 << 20)
            except OSError:
                os._exit(70)
            if not data:
                os._exit(0)
            self._ready = list(self._reader.feed(data))
        return self._ready.pop(0)


class Slots:
    """Which batch each thread runs since when, in memory that outlives this process: the worker reads it on death."""

    def __init__(self, fd: int, threads: int) -> None:
        self._memory = mmap.mmap(fd, SLOT.size * threads)
        os.lseek(fd, 1 << 20, os.SEEK_SET)  # mmap keeps a copy of it: a stray write of user code lands far behind
        os.close(fd)

    def enter(self, thread: int, seq: int) -> None:
        """Say that ``thread`` runs ``seq`` from now; the time is written first, the worker reads it second."""
        offset = thread * SLOT.size
        struct.pack_into("<d", self._memory, offset, time.monotonic())
        struct.pack_into("<Q", self._memory, offset + 8, seq)

    def leave(self, thread: int) -> None:
        """Say that ``thread`` runs nothing."""
        struct.pack_into("<Q", self._memory, thread * SLOT.size + 8, 0)


def _is_transient(error: BaseException | None) -> bool:
    """Return whether a transient fault stands anywhere in the chain, however the user's code wrapped it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, TransientError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _describe(error: BaseException) -> dict[str, object]:
    """Return an exception as the worker keeps it: one line, and the traceback without our own frames on top."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001 - the user's own __str__
        lines = ["(its text could not be made)"]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    trace = error.__traceback__
    here = str(Path(__file__).parent.parent)
    while trace and trace.tb_next and trace.tb_frame.f_code.co_filename.startswith(here):
        trace = trace.tb_next
    detail = "".join(traceback.format_exception(type(error), error, trace))
    if len(detail) > _DETAIL_BYTES:
        detail = detail[: _DETAIL_BYTES // 2] + "\n…\n" + detail[-_DETAIL_BYTES // 2 :]
    transient = _is_transient(error)
    return {"error": text[:1000], "detail": detail, "transient": transient}


class Process:
    """One handler process from INIT to STOP."""

    def __init__(self, channel: Channel, slots_fd: int) -> None:
        self._channel = channel
        self._slots_fd = slots_fd
        self._call: Callable[[list[Any], str], Any]
        self._complete: Callable[[], Any] | None = None
        self._job_id = ""
        self._output = False
        self._key: str | None = None

    def run(self) -> None:
        """Construct the handler, then run batches until STOP."""
        init = json.loads(self._channel.receive().body)
        self._job_id, self._output, self._key = init["job_id"], init["output"], init["key"]
        tags.install(init["log_level"])
        self._slots = Slots(self._slots_fd, init["threads"])
        if not self._construct(init):
            return
        self._channel.send_json(Kind.READY, 0, {"on_job_complete": self._complete is not None})
        if init["threads"] == 1:
            self._serve_in_main_thread()
        else:
            self._serve_in_threads(init["threads"])

    def _construct(self, init: dict[str, Any]) -> bool:
        try:
            self._load(init)
        except InvalidError as error:
            self._channel.send_json(Kind.INVALID, 0, {"reason": error.reason, "message": str(error)})
            return False
        except BaseException as error:  # noqa: BLE001 - around the user's constructor
            self._channel.send_json(Kind.INIT_ERROR, 0, _describe(error))
            return False
        return True

    def _load(self, init: dict[str, Any]) -> None:
        from batchyard.handler import contract, load, project

        client: Any = None
        if init["serving"]:
            from batchyard.serving.client import ServedModel, TensorflowClient

            models = [
                ServedModel(m["name"], tuple(m["versions"]), m["signature_key"]) for m in init["serving"]["models"]
            ]
            client = TensorflowClient(init["serving"]["target"], models, deadline=init["serving"]["deadline"])
            client.check()
        if init["output"]:
            import batchyard.output.encode  # noqa: F401 - before the project's folder comes first on sys.path
        project.enter(Path(init["project"]), init["env"], [Path(p) for p in init["extra_paths"]])
        if init["path"] is None:
            from batchyard.handler import builtin as module
        else:
            module = load.load_module(Path(init["project"]), init["path"])
        spec = contract.check(module, init["type"])
        job_spec = None
        if spec.wants_job_spec:
            self._channel.send(Kind.WANTS_JOB_SPEC, 0, b"")
            frame = self._channel.receive()
            if frame.kind is Kind.STOP:
                os._exit(0)
            job_spec = json.loads(frame.body)
        handler = contract.construct(spec, tensorflow_client=client, config=init["config"], job_spec=job_spec)
        self._call = spec.bind(handler)
        if spec.has_on_job_complete:
            self._complete = lambda: contract.call_complete(spec, handler)

    def _serve_in_main_thread(self) -> None:
        while (frame := self._channel.receive()).kind is not Kind.STOP:
            self._work(0, frame)

    def _serve_in_threads(self, threads: int) -> None:
        todo: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()

        def serve(thread: int) -> None:
            while (frame := todo.get()) is not None:
                self._work(thread, frame)

        pool = [threading.Thread(target=serve, args=(i,), name=f"batchyard-{i}", daemon=True) for i in range(threads)]
        for thread in pool:
            thread.start()
        while (frame := self._channel.receive()).kind is not Kind.STOP:
            todo.put(frame)
        for _ in pool:
            todo.put(None)
        for thread in pool:
            thread.join()

    def _work(self, thread: int, frame: Frame) -> None:
        self._slots.enter(thread, frame.seq)
        try:
            kind, answer = self._answer(frame)
            self._flush()
            self._channel.send(kind, frame.seq, answer)
        except BaseException:  # noqa: BLE001 - not even an answer could be made (no memory left, say)
            # the slot stays taken: the worker sees the death and counts one attempt, never a batch without an end
            os._exit(70)
        tags.leave()
        self._slots.leave(thread)

    def _answer(self, frame: Frame) -> tuple[Kind, bytes]:
        try:
            if frame.kind is Kind.BATCH:
                return Kind.RESULT, self._run_batch(frame)
            tags.enter(-1, 1)
            if self._complete is not None:
                self._complete()
        except BaseException as error:  # noqa: BLE001 - around the user's code, SystemExit included: it costs one attempt
            return Kind.ERROR, json.dumps(_describe(error)).encode()
        return Kind.RESULT, b""

    def _run_batch(self, frame: Frame) -> bytes:
        index, attempt, body = frames.split_batch(frame.body)
        tags.enter(index, attempt)
        items = decode_items(body)
        if not self._output:
            self._call(items, names.batch_id(self._job_id, index))
            return b""
        from batchyard.output.encode import encode_result

        header = decode_header(body)
        # a copy of its own, or just the number: the handler may change its payload in place
        given = [None] * len(items) if self._key is None else decode_items(body)
        result = self._call(items, names.batch_id(self._job_id, index))
        return encode_result(result, given, header.first, index, self._key)

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # user code closed it, or put something of its own there
                stream.flush()


def main(arguments: list[str]) -> None:
    """Run one handler process over the descriptors named on the command line."""
    die_with_parent()
    os.environ.pop("BATCHYARD_PARENT_DEATH", None)
    channel_fd, slots_fd, crash_fd = map(int, arguments)
    crash_fd = _move_high(crash_fd)
    import faulthandler

    faulthandler.enable(file=crash_fd, all_threads=True)
    faulthandler.register(signal.SIGUSR1, file=crash_fd, all_threads=True)
    child_signals.install()
    Process(Channel(channel_fd), slots_fd).run()


if __name__ == "__main__":
    main(sys.argv[1:])
