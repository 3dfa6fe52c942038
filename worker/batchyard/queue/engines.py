"""Opens a queue by its URL, so that only the engine in use is imported."""

from batchyard.api.errors import InvalidError
from batchyard.queue.port import Queue


def open_queue(url: str, owner: str = "") -> Queue:
    """Open the queue at ``url``: ``sqlite:/path/to/queue.db``. ``owner`` names the holder of its leases.

    Raises QueueLost when there is no such queue, QueueUnavailable when it cannot be reached.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        from batchyard.queue.sqlite import SqliteQueue

        return SqliteQueue.open(rest, owner=owner)
    raise InvalidError(f"queue: found {url!r}, expected sqlite:/path/to/queue.db")
