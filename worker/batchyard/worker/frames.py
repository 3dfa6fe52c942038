"""The wire between a worker and its handler processes: one socketpair, length-prefixed frames.

Apart from both ends so that they cannot differ. Bodies are opaque bytes on purpose: the parent never unpickles what
a process running user code sent, and a batch's items pass through it undecoded.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

_HEADER = struct.Struct("<BIQ")
_BATCH = struct.Struct("<qI")
MAX_BODY = 2**32 - 1


class Kind(IntEnum):
    """What a frame says; below 16 from the worker, from 16 on from the handler process."""

    INIT = 1  # JSON: everything the process needs
    JOB_SPEC = 2  # JSON: the answer to WANTS_JOB_SPEC
    BATCH = 3  # index, attempt, message body
    COMPLETE = 4  # run on_job_complete
    STOP = 5
    WANTS_JOB_SPEC = 16
    READY = 17  # JSON: {"on_job_complete": bool}
    INVALID = 18  # JSON: {"reason", "message"}: retrying cannot help
    INIT_ERROR = 19  # JSON: {"error", "detail", "transient"}: the constructor raised
    RESULT = 20  # result lines, empty when no output is wanted
    ERROR = 21  # JSON: {"error", "detail", "transient"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. ``seq`` ties an answer to its batch."""

    kind: Kind
    seq: int
    body: bytes


def header(kind: Kind, seq: int, length: int) -> bytes:
    """Return the bytes before a body of ``length`` bytes. Raises ValueError above 4 GiB."""
    if length > MAX_BODY:
        raise ValueError(f"a frame holds at most {MAX_BODY} bytes, found {length}")
    return _HEADER.pack(kind, length, seq)


def batch_prefix(index: int, attempt: int) -> bytes:
    """Return what stands before the message body in a BATCH frame."""
    return _BATCH.pack(index, attempt)


def split_batch(body: bytes) -> tuple[int, int, bytes]:
    """Return index, attempt and message body of a BATCH frame."""
    index, attempt = _BATCH.unpack_from(body)
    return index, attempt, body[_BATCH.size :]


class Reader:
    """Cuts a byte stream into frames; holds what is incomplete."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._body = bytearray()
        self._wanted: tuple[Kind, int, int] | None = None

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Take the next bytes of the stream; yield each frame they complete."""
        view = memoryview(data)
        while True:
            if self._wanted is None:
                take = _HEADER.size - len(self._head)
                self._head += view[:take]
                view = view[take:]
                if len(self._head) < _HEADER.size:
                    return
                kind, length, seq = _HEADER.unpack(self._head)
                self._wanted = (Kind(kind), length, seq)
                self._head.clear()
            kind, length, seq = self._wanted
            take = length - len(self._body)
            self._body += view[:take]
            view = view[take:]
            if len(self._body) < length:
                return
            body, self._body, self._wanted = bytes(self._body), bytearray(), None
            yield Frame(kind, seq, body)
