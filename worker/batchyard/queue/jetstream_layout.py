"""Names, streams and consumers of a job's queue on JetStream; pure, apart so that the layout is in one place.

Two streams a job. ``<name>-batches`` is a work queue that holds exactly the unsettled batches: batch ``i`` is message
``i + 1``, and the seal, which is also the completion token, is the message after the last batch. ``<name>-records``
keeps the last message of each subject, for what must be remembered beside that:

    c.halt, c.seal, c.cursor   the halt in force, what was sealed, where the enqueuer stands
    c.servers                  the servers that the queue was used on, and how far it was when the last one started
    s.<i>, s.t                 what is known of a batch, or of the token, that was not settled at its first delivery
    w.<i> (v.t for the token)  it was given back and waits: it is under no lease
    f.<i>, x.<i>               the batch failed for good: attempts and failure, and its body

Beside them a plain message that nothing keeps, under ``batchyard.wake.<name>``, tells whoever listens that the queue
was sealed, halted or taken up again, or that its token is settled: look now instead of later.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from batchyard.api.errors import InvalidError
from batchyard.queue.port import COMPLETION

PUBLISH_TOGETHER = 1000
"""Messages that a server stores all or none (its default ``max_batch_size``)."""

WAKE = "batchyard.wake."
"""Subjects of the wake messages, less the queue's name."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
_EXPECTED = "nats://host:port/<queue name>, the name of letters, digits, - and _"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job's queue is: ``servers`` are URLs without credentials, ``name`` is the queue's."""

    servers: tuple[str, ...]
    name: str

    @property
    def batches(self) -> str:
        """The work-queue stream."""
        return f"{self.name}-batches"

    @property
    def records(self) -> str:
        """The stream of what is remembered."""
        return f"{self.name}-records"

    @property
    def batch(self) -> str:
        """The subject of batches."""
        return f"batchyard.{self.name}.b"

    @property
    def wake(self) -> str:
        """The subject of the message that says: look now."""
        return f"{WAKE}{self.name}"

    @property
    def token(self) -> str:
        """The subject of the seal."""
        return f"batchyard.{self.name}.t"

    def record(self, tail: str) -> str:
        """Return the subject of a record."""
        return f"batchyard.{self.name}.r.{tail}"

    def status(self, index: int) -> str:
        """Return the subject of what is known of a batch, or of the token."""
        return self.record("s.t" if index == COMPLETION else f"s.{index}")

    def waits(self, index: int) -> str:
        """Return the subject of the mark of a batch that was given back."""
        return self.record("v.t" if index == COMPLETION else f"w.{index}")


class AckSubject(NamedTuple):
    """What the subject that settles a delivery says: which consumer, the how-manieth delivery, which message."""

    consumer: str
    delivered: int
    sequence: int


def place_of(url: str) -> Place:
    """Return the place that a queue URL names. Raises InvalidError; credentials are not repeated."""
    shown = re.sub(r"//[^/]*@", "//…@", url)
    scheme, _, rest = url.partition("://")
    hosts, slash, name = rest.partition("/")
    if scheme not in ("nats", "tls") or not slash or not hosts or not _NAME.fullmatch(name):
        raise InvalidError(f"queue: found {shown!r}, expected {_EXPECTED}")
    if "@" in hosts:
        raise InvalidError(
            f"queue: found credentials in {shown!r}, expected them in NATS_USER and NATS_PASSWORD, NATS_TOKEN, "
            "or a file named by NATS_CREDS"
        )
    servers = tuple(f"{scheme}://{host}" for host in hosts.split(","))
    for server in servers:
        try:
            split = urlsplit(server)
            good = bool(split.hostname) and split.port != 0
        except ValueError:
            good = False
        if not good:
            raise InvalidError(f"queue: found {shown!r}, expected {_EXPECTED}")
    return Place(servers, name)


def ack_subject(subject: str) -> AckSubject:
    """Read ``$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>…``, or the form with a domain and an account."""
    parts = subject.split(".")
    start = 3 if len(parts) == 9 else 5
    return AckSubject(parts[start], int(parts[start + 1]), int(parts[start + 2]))


def stream_configs(place: Place, replicas: int) -> list[dict[str, Any]]:
    """Return the streams, as the server's API takes them."""
    shared = {"storage": "file", "num_replicas": replicas, "allow_direct": True, "allow_atomic": True}
    return [
        {
            "name": place.records,
            "subjects": [place.record(">")],
            "retention": "limits",
            "max_msgs_per_subject": 1,
            **shared,
        },
        {
            "name": place.batches,
            "subjects": [place.batch, place.token],
            "retention": "workqueue",
            **shared,
        },
    ]


def consumer_configs(place: Place, lease: float) -> list[dict[str, Any]]:
    """Return the two consumers of the work queue; ``lease`` is the server's patience in seconds."""
    return [
        {
            "name": name,
            "durable_name": name,
            "filter_subject": subject,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_wait": int(lease * 1e9),
            "max_deliver": -1,
            "max_ack_pending": -1,  # delayed retries count too: any limit could stop a job
            "max_waiting": 4096,  # one pull a waiting worker
        }
        for name, subject in (("b", place.batch), ("t", place.token))
    ]
