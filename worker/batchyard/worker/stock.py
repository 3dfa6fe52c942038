"""The batches a worker has taken and not handed to a process yet; items that lie in the work prefix come here first.

Apart from ``loop`` because fetching has threads and bounds of its own: large batches are fetched late, few at once.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from batchyard.api.messages import encode
from batchyard.queue.port import Failure
from batchyard.storage.port import NotThere, StorageUnavailable
from batchyard.storage.work import LargeBatches
from batchyard.worker.core import Bury, Release
from batchyard.worker.outcomes import Work

_THREADS = 4
_AHEAD_BYTES = 64 << 20
_AWAY_SECONDS = 5.0  # before a batch is tried again whose items could not be fetched


@dataclass(frozen=True, slots=True)
class Fetched:
    """A batch's items are here, or (``error``) cannot be had: never (``gone``), or not now (``transient``)."""

    work: Work
    body: bytes = b""
    error: str | None = None
    gone: bool = False
    transient: bool = False


class Stock:
    """Works in the order they came. All methods are for one thread; what is fetched is said as ``Fetched``."""

    def __init__(self, open_large: Callable[[], LargeBatches], say: Callable[[Fetched], None]) -> None:
        self._open, self._say = open_large, say
        self._ready: deque[Work] = deque()
        self._far: deque[Work] = deque()
        self._fetching: dict[int, Work] = {}  # by the identity of the work
        self._large: set[int] = set()  # indexes of batches in our hands whose items lie in the work prefix
        self._threads: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._ready) + len(self._far) + len(self._fetching)

    @property
    def first(self) -> Work | None:
        """The next work that can be handed over."""
        return self._ready[0] if self._ready else None

    def pop(self) -> None:
        """Forget the first: it was handed over."""
        self._ready.popleft()

    def add(self, work: Work) -> None:
        """Take a batch that was received."""
        if work.header is not None and work.header.stored and not work.fetched:
            self._large.add(work.delivery.index)
            self._far.append(work)
        else:
            self._ready.append(work)

    def add_first(self, work: Work) -> None:
        """Take a batch back that is to run next."""
        self._ready.appendleft(work)

    def clear(self) -> list[Work]:
        """Return every work but those that are being fetched, and hold them no longer."""
        left = [*self._ready, *self._far]
        self._ready.clear()
        self._far.clear()
        return left

    def fetch(self, room: int) -> None:
        """Start to fetch what is due: as many as processes have room for, then one more or 64 MiB ahead of them."""
        ahead = [work for work in self._ready if work.fetched] + list(self._fetching.values())
        held = sum(work.size for work in ahead)
        count = len(ahead)
        while self._far and (count <= room or held + self._far[0].size <= _AHEAD_BYTES):
            work = self._far.popleft()
            held, count = held + work.size, count + 1
            self._fetching[id(work)] = work
            self._pool().submit(self._get, work)

    def take(self, fetched: Fetched) -> Bury | Release | None:
        """Take what was fetched; return how a batch is settled whose items cannot be had, None otherwise."""
        work = self._fetching.pop(id(fetched.work))
        if fetched.error is None:
            work.fetched = fetched.body
            self._ready.append(work)
            return None
        if fetched.gone:
            return Bury(Failure("ItemsLost", fetched.error), attempted=False)
        return Release(delay=_AWAY_SECONDS)

    def settled(self, index: int, *, succeeded: bool) -> None:
        """Forget a batch; remove its items once it succeeded. What is not removed is left to the sweep at the end."""
        if index in self._large:
            self._large.discard(index)
            if succeeded:
                self._pool().submit(lambda: self._open().delete(index))

    def close(self) -> None:
        """Let go of what is not begun."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, "batchyard-fetcher")
        return self._threads

    def _get(self, work: Work) -> None:
        try:
            self._say(self._got(work))
        except NotThere as error:
            self._say(Fetched(work, error=f"the batch's items are gone: {error}", gone=True))
        except StorageUnavailable as error:
            self._say(Fetched(work, error=str(error), transient=True))
        except Exception as error:  # noqa: BLE001 - refused, or a bug: a thread's own trace would be lost
            self._say(Fetched(work, error=f"{type(error).__name__}: {error}"))

    def _got(self, work: Work) -> Fetched:
        header = work.header
        assert header is not None  # noqa: S101 - only a batch with one comes here; tells the type checker
        large = self._open()
        items = large.get(work.delivery.index)
        if len(items) != header.stored:
            where = large.url(work.delivery.index)
            text = f"{where}: found {len(items):,} bytes, expected the {header.stored:,} that were put there."
            return Fetched(work, error=f"the batch's items are gone: {text}", gone=True)
        return Fetched(work, encode(replace(header, stored=0), items))
