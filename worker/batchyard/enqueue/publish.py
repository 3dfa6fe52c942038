"""Puts the batches into the queue, in windows, from wherever the queue says that publishing stopped.

The queue's position is the only memory: each window carries the cursor behind its last batch, all or none. Killed
before a publish, the window is cut again; killed after it, the position is behind it. A second enqueuer is told by a
conflict and goes on from the new position.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from enum import Enum
from functools import partial
from typing import NamedTuple, TypeVar

from batchyard.enqueue.settings import EnqueueSettings
from batchyard.enqueue.sources import Source, source_of
from batchyard.enqueue.split import Batch, InputInvalid, Mark, Origin, split
from batchyard.enqueue.storing import Storing
from batchyard.queue.port import BodyTooLarge, Position, PublishConflict, Queue, QueueUnavailable
from batchyard.storage.port import StorageUnavailable
from batchyard.storage.work import MAX_ITEMS_BYTES

WINDOW_BATCHES = 1000
WINDOW_BYTES = 8 << 20
HEADER_BYTES = 128 << 10  # room that a batch leaves for its header, whose message of a malformed line is short
WINDOW_SECONDS = 0.1  # the first batches reach the workers at once, however slowly the input is read
_HALT_SECONDS = 1.0  # how often to look whether the job was stopped
_BACKOFF = (0.05, 5.0)  # seconds, first and longest

T = TypeVar("T")


class Outcome(Enum):
    """How an enqueuer ended without an error."""

    SEALED = "sealed"  # every batch is published
    STOPPED = "stopped"  # asked to
    HALTED = "halted"  # the job was stopped meanwhile: nobody takes more batches


class Stopped(Exception):
    """The enqueuer was asked to stop while it waited."""


def enqueue(
    queue: Queue, settings: EnqueueSettings, stop: threading.Event, say: Callable[[str, str], None]
) -> Outcome:
    """Publish every batch that is not in the queue yet, then seal it.

    ``say(level, message)`` logs. A store that is away is waited for. Raises InputInvalid (the caller halts the job
    with it) and QueueLost.
    """
    pause, longest = _BACKOFF
    try:
        while True:
            try:
                return _run(queue, settings, stop, say)
            except PublishConflict as conflict:
                say("INFO", f"another enqueuer published since, going on from its position: {conflict}")
            except StorageUnavailable as error:
                say("WARNING", f"the input cannot be read now, trying again: {error}")
                if stop.wait(pause):
                    return Outcome.STOPPED
                if patiently(queue.state, stop, say).halt is not None:
                    return Outcome.HALTED
                pause = min(longest, pause * 2)
    except Stopped:
        return Outcome.STOPPED


def patiently(call: Callable[[], T], stop: threading.Event, say: Callable[[str, str], None]) -> T:
    """Call until the queue answers, with growing pauses. Raises Stopped when asked to stop meanwhile."""
    pause, longest = _BACKOFF
    while True:
        try:
            return call()
        except QueueUnavailable as error:
            say("WARNING", f"the queue does not answer, trying again: {error}")
            if stop.wait(pause * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter, no secret
                raise Stopped from None
            pause = min(longest, pause * 2)


def _run(queue: Queue, settings: EnqueueSettings, stop: threading.Event, say: Callable[[str, str], None]) -> Outcome:
    """Publish from the queue's position to the end. Raises PublishConflict when somebody else publishes too."""
    position = patiently(queue.position, stop, say)
    if position.sealed:
        return Outcome.SEALED
    digest = settings.digest()
    items, after = _resumed(position, digest)
    if position.published:
        say("INFO", f"going on behind batch {position.published - 1}, item {items - 1}")
    source = source_of(settings)
    published = position.published
    limit, advice = _limit(queue, settings)
    batches = split(source.runs(after), settings.batch_size, items, limit, published, advice)
    looked = time.monotonic()
    with closing(Storing(settings, queue.max_body, stop, say)) as storing:
        for window in _windows(batches, digest, settings.tolerate_malformed, storing, published):
            storing.wait()
            if stop.is_set():
                return Outcome.STOPPED
            patiently(partial(_publish, queue, published, window), stop, say)
            published += len(window.bodies)
            items = window.items
            if time.monotonic() - looked > _HALT_SECONDS:
                looked = time.monotonic()
                if patiently(queue.state, stop, say).halt is not None:
                    return Outcome.HALTED
    if published == 0 and not settings.allow_empty:
        raise InputInvalid(nothing_in(settings, source))
    patiently(lambda: queue.seal(published, items), stop, say)
    say("INFO", f"enqueued {items:,} items in {published:,} batches")
    return Outcome.SEALED


def _limit(queue: Queue, settings: EnqueueSettings) -> tuple[int, str]:
    """Return how many bytes a batch's items may have, and what a person can do for larger ones."""
    most = queue.max_body - HEADER_BYTES
    if settings.storage.work:
        return max(most, MAX_ITEMS_BYTES), ""
    return most, "set storage.work to a prefix where larger batches are kept" if most < MAX_ITEMS_BYTES else ""


class _Window(NamedTuple):
    """Batches that are published together. ``items``: items of the input up to and with them."""

    bodies: list[bytes]
    cursor: bytes
    items: int
    place: str  # of its last batch, for messages


def _publish(queue: Queue, first: int, window: _Window) -> None:
    try:
        queue.publish(first, window.bodies, window.cursor)
    except BodyTooLarge as error:  # only by a header longer than any that is reckoned with
        raise InputInvalid(f"{window.place or 'input.items'}: {error}; lower input.batchSize.") from error


def _windows(
    batches: Iterator[Batch], digest: str, tolerate: bool, storing: Storing, first: int
) -> Iterator[_Window]:
    """Yield batches by windows; a malformed line that is not tolerated raises as soon as it is met."""
    bodies: list[bytes] = []
    held, began = 0, time.monotonic()
    batch = None
    for index, batch in enumerate(batches, first):
        if batch.header.invalid is not None and not tolerate:
            raise InputInvalid(f"{batch.header.invalid} With errorThreshold set the job goes on without such lines.")
        bodies.append(storing.body(index, batch))
        held += len(bodies[-1])
        if len(bodies) >= WINDOW_BATCHES or held >= WINDOW_BYTES or time.monotonic() - began >= WINDOW_SECONDS:
            yield _Window(bodies, cursor_of(batch, digest), batch.end, batch.mark.place())
            bodies, held, began = [], 0, time.monotonic()
    if bodies and batch is not None:
        yield _Window(bodies, cursor_of(batch, digest), batch.end, batch.mark.place())


def cursor_of(batch: Batch, digest: str) -> bytes:
    """Return what a later enqueuer needs to go on behind ``batch``: its place in the input, and what was cut how."""
    mark = batch.mark
    place = {"offset": mark.offset, "line": mark.next_line, **asdict(mark.origin)}
    return json.dumps({"input": digest, "items": batch.end, "place": place}).encode()


def _resumed(position: Position, digest: str) -> tuple[int, Mark | None]:
    """Return the number of items published so far and the place that the source goes on from."""
    if not position.published:
        return 0, None
    cursor = json.loads(position.cursor)
    if cursor["input"] != digest:
        raise InputInvalid(
            "input: found other paths, items or batchSize than the ones this job was begun with, "
            "expected the same; start the job anew."
        )
    place = cursor["place"]
    offset, line = place.pop("offset"), place.pop("line")
    return cursor["items"], Mark(Origin(**place), line, offset, line)


def nothing_in(settings: EnqueueSettings, source: Source) -> str:
    """Return the sentence for an input without items."""
    where = {0: ""}.get(source.files, f" in {source.files:,} file{'s' if source.files != 1 else ''}")
    return f"input.{settings.input.kind}: found no items{where}, expected at least one."
