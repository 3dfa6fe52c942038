"""The leases that this process holds, whichever handle took them; apart because threads meet here.

A server's acknowledgement removes a message whoever sends it, so who may still settle is decided before it is sent.
A first delivery is settled straight away while this table knows that its lease cannot have ended; all else goes
through the batch's record. The table also lets one thread at a time settle a delivery.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from batchyard.queue.port import Delivery


@dataclass(frozen=True, slots=True)
class Lease:
    """One delivery's right to the last word about its batch.

    ``subject``: what settles it at the server. ``record``: the sequence of its status record, 0 for a first delivery.
    ``by``: unlike any other lease's. ``queue``: where it belongs.
    """

    queue: str
    subject: str
    delivered: int
    record: int
    by: str


@dataclass(slots=True)
class Held:
    """A lease of ours. ``sure_until``: monotonic seconds before which the server cannot have ended it.

    ``wanted_until``: when its holder wants it to end. ``connection``: the one it came or was extended by; after a
    reconnect the server may have forgotten it. ``in_doubt``: a settle was sent and no answer came.
    ``is_plain``: whether it never was unsure; one that was can only be settled on record, since somebody else may
    hold the batch too.
    """

    sure_until: float
    wanted_until: float
    connection: int
    keeper: object
    is_settling: bool = False
    in_doubt: bool = False
    is_plain: bool = True


class Leases:
    """A table of ``Held`` by ``Lease``. Safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._held: dict[str, tuple[Lease, Held]] = {}  # by Lease.by
        self._lock = threading.Lock()
        self._clock = clock
        self._swept = clock()

    def add(self, leases: Iterable[tuple[Lease, Held]]) -> None:
        """Take leases into the table."""
        with self._lock:
            self._held.update((lease.by, (lease, held)) for lease, held in leases)
            now = self._clock()
            if now - self._swept > _SWEEP:
                self._swept = now
                for key, (_, held) in list(self._held.items()):
                    # nobody settled it: the server gave it to somebody else long ago
                    if max(held.sure_until, held.wanted_until) < now - _SWEEP and not held.is_settling:
                        del self._held[key]

    def take(self, deliveries: Sequence[Delivery]) -> list[Held | bool | None]:
        """Reserve deliveries for settling: its Held, None for a lease not known here, False when another is at it.

        A lease that comes twice is given once.
        """
        with self._lock:
            return [self._take(delivery.lease) for delivery in deliveries]

    def _take(self, lease: object) -> Held | bool | None:
        held = self._of(lease)
        if held is None:
            return None
        if held.is_settling:
            return False
        held.is_settling = True
        return held

    def settled(self, leases: Iterable[Lease]) -> None:
        """Forget leases: settled, or not ours any more."""
        with self._lock:
            for lease in leases:
                self._held.pop(lease.by, None)

    def give_back(self, leases: Iterable[Lease], *, in_doubt: bool) -> None:
        """Let leases be settled again: a settle failed on its way."""
        with self._lock:
            for lease in leases:
                if held := self._of(lease):
                    held.is_settling = False
                    held.in_doubt |= in_doubt

    def get(self, lease: object) -> Held | None:
        """Return what is known of a lease."""
        with self._lock:
            return self._of(lease)

    def _of(self, lease: object) -> Held | None:
        return self._held[lease.by][1] if isinstance(lease, Lease) and lease.by in self._held else None

    def kept_by(self, keeper: object) -> list[tuple[Lease, Held]]:
        """Return the leases that a handle must extend by itself: wanted longer than they are sure."""
        with self._lock:
            now = self._clock()
            return [
                (lease, held)
                for lease, held in self._held.values()
                if held.keeper is keeper and held.wanted_until > max(now, held.sure_until) and not held.is_settling
            ]


LEASES = Leases()

_numbers = itertools.count()


def unlike_any_other() -> str:
    """Return a name that nobody else gives, in this process or another."""
    return f"{_PROCESS}-{os.getpid()}-{next(_numbers)}"


_PROCESS = os.urandom(8).hex()
_SWEEP = 60.0
