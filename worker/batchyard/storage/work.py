"""Items of batches that no queue message can hold, as files of the job's work prefix, one a batch.

Apart because the enqueuer writes them, workers read and delete them, and neither imports the other.
"""

import re
from collections.abc import Callable, Iterable

from batchyard.api.storage import StorageSettings
from batchyard.storage.door import open_folder, store_options

MAX_ITEMS_BYTES = 512 << 20
"""The largest batch by reference: a worker and a handler process each hold it whole."""

_NAME = re.compile(r"batch-(\d{9,})\.json")


class LargeBatches:
    """The large batches of one job. Every method raises StorageUnavailable or StorageRefused.

    Threads may share one; it must not go through a fork.
    """

    def __init__(self, settings: StorageSettings, job_id: str) -> None:
        """Open ``<work>/<job id>/``; ``settings.work`` must not be empty."""
        self._folder = open_folder(f"{settings.work.rstrip('/')}/{job_id}", store_options(settings))

    def url(self, index: int) -> str:
        """Return the path or URL of a batch's items."""
        return self._folder.url(_name(index))

    def put(self, index: int, items: memoryview) -> None:
        """Write the items of a batch, a JSON array; repeating it replaces them."""
        self._folder.put(_name(index), _pieces(items))

    def get(self, index: int) -> bytes:
        """Return the items of a batch. Raises NotThere too."""
        return b"".join(self._folder.chunks(_name(index)))

    def delete(self, index: int) -> None:
        """Remove the items of a batch that are there no longer than that it is settled."""
        self._folder.delete(_name(index))

    def sweep(self, unsettled: Callable[[], Iterable[int]]) -> int:
        """Remove the items of every batch but ``unsettled()``, which is asked only if there are any; return how many.

        What is left of a delete that failed, or of a worker killed before it.
        """
        found = {
            int(match[1]): stored.name for stored in self._folder.list() if (match := _NAME.fullmatch(stored.name))
        }
        if found:
            for index in unsettled():
                found.pop(index, None)
        return self._folder.delete_all(found.values())


def _name(index: int) -> str:
    return f"batch-{index:09d}.json"


def _pieces(items: memoryview) -> Iterable[bytes]:
    return (bytes(items[at : at + (4 << 20)]) for at in range(0, len(items), 4 << 20))
