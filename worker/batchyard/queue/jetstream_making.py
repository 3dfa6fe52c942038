"""Makes and removes the streams of a job's queue on JetStream; apart because handles and the operator both do."""

from contextlib import suppress

from batchyard.api.errors import InvalidError
from batchyard.queue.jetstream_layout import consumer_configs, stream_configs
from batchyard.queue.jetstream_store import Store
from batchyard.queue.port import QueueLost


async def make(store: Store, lease: float, replicas: int) -> None:
    """Make the streams and consumers, as far as they are not there. Raises InvalidError for what cannot be."""
    if lease < 0.5:
        raise InvalidError(f"queue: found a lease of {lease:g} s, expected 0.5 s or more")
    for config in stream_configs(store.place, replicas):
        made = await store.api(f"STREAM.CREATE.{config['name']}", config)
        if not made["config"].get("allow_atomic"):
            raise InvalidError(
                "queue: found a NATS server that stores no messages all or none, expected 2.12 or newer"
            )
    for consumer in consumer_configs(store.place, lease):
        subject = f"CONSUMER.CREATE.{store.place.batches}.{consumer['name']}.{consumer['filter_subject']}"
        await store.api(subject, {"stream_name": store.place.batches, "config": consumer, "action": ""})


async def remove(store: Store) -> None:
    """Remove the streams with all they hold; what is gone already is fine."""
    for stream in (store.place.batches, store.place.records):
        with suppress(QueueLost):
            await store.api(f"STREAM.DELETE.{stream}")
