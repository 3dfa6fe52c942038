"""Opens a queue by its URL, so that only the engine in use is imported."""

import re

from batchyard.api.errors import InvalidError
from batchyard.queue.port import Queue


def open_queue(url: str, owner: str = "") -> Queue:
    """Open the queue at ``url``: ``sqlite:/path/to/queue.db`` or ``nats://host:port/<queue name>``.

    ``owner`` names the holder of its leases. Who we are to NATS is in the environment: NATS_USER and NATS_PASSWORD,
    NATS_TOKEN, or NATS_CREDS, a file. Raises InvalidError for a URL of no engine or an engine that is not installed,
    QueueLost when there is no such queue, QueueUnavailable when it cannot be reached.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        from batchyard.queue.sqlite import SqliteQueue

        return SqliteQueue.open(rest, owner=owner)
    if scheme in ("nats", "tls"):
        try:
            from batchyard.queue.jetstream import JetStreamQueue
        except ModuleNotFoundError as error:
            if error.name != "nats":
                raise
            raise InvalidError("queue: nats-py is not installed: pip install 'batchyard[queue]'") from error
        return JetStreamQueue.open(url, owner=owner)
    raise InvalidError(
        f"queue: found {re.sub('//[^/]*@', '//…@', url)!r}, expected sqlite:/path/to/queue.db or nats://host:port/name"
    )
