"""What everyone may ask of a job's queue on JetStream: its state, and the batches that failed."""

import asyncio
import json
from array import array
from collections.abc import AsyncIterator

from batchyard.queue.jetstream_publishing import published_of
from batchyard.queue.jetstream_records import buried_from, status_from
from batchyard.queue.jetstream_store import Refused, Store
from batchyard.queue.port import Completion, Counts, FailedBatch, Failure, Halt, State

_PAGE = 500


class Reading:
    """One handle's looks."""

    def __init__(self, store: Store, created: str) -> None:
        self._store = store
        self._created = created
        self._succeeded = 0
        self._reached = 0

    async def state(self) -> State:
        """Return a look.

        What remains is read first, then what failed: the sum of both is exact at any moment, and never goes back. A
        batch between its two writes (on record as failed, not yet removed) is counted by this handle as failed no
        earlier than its removal if else a success would seem to be taken back.
        """
        stream, consumer = await asyncio.gather(self._store.stream(), self._store.consumer("b"))
        if stream.created != self._created:
            raise self._store.lost("it was made anew")
        control, failed, waiting = await asyncio.gather(
            self._store.control(), self._store.count("f.*"), self._store.count("w.*")
        )
        control = await self._store.healed(control)
        published = published_of(stream, control.seal)
        token = control.seal is not None and stream.last > control.seal.published
        remaining = max(0, stream.messages - token)
        settled = max(0, published - remaining)
        self._succeeded = max(self._succeeded, settled - failed)
        running = max(0, min(remaining, consumer.out - waiting))
        return State(
            Counts(published, self._succeeded, settled - self._succeeded, running),
            control.completion,
            control.token.buried if control.token and control.completion is Completion.FAILED else None,
            control.halt,
            control.seal.items if control.seal else None,
        )

    async def halt(self, halt: Halt) -> Halt:
        """Stop the job, or return the halt that was first."""
        data = json.dumps({"reason": halt.reason, "message": halt.message}).encode()
        while True:
            control = await self._store.control()
            if control.halt is not None:
                return control.halt
            try:
                await self._store.write(self._store.place.record("c.halt"), data, control.halt_sequence)
            except Refused:
                continue
            self._store.wake()
            return halt

    async def resume(self) -> None:
        """Take a halt back."""
        control = await self._store.control()
        if control.halt is not None:
            await self._store.write(self._store.place.record("c.halt"), b"null")
            self._store.wake()

    async def last_attempt_failure(self, index: int) -> Failure | None:
        """Return the failure of the newest failed attempt of a batch."""
        subject = self._store.place.status(index)
        kept = (await self._store.last([subject])).get(subject)
        return status_from(kept.data).failure if kept else None

    # --- failed batches ---
    async def recent_failures(self, limit: int) -> list[FailedBatch]:
        """Return the newest failed batches, newest first, without bodies; found by halving: nothing counts back."""
        place, everything = self._store.place, self._store.place.record("f.*")
        found = await self._store.get(place.records, seq=1, next_by_subj=everything, batch=1)
        if not found or limit <= 0:
            return []
        low, skip = found[0].sequence, max(0, found[0].more + 1 - limit)
        if skip:
            low = await self._sequence_with(found[0].more + 1 - skip, low, everything)
        newest: list[FailedBatch] = []
        async for sequence_index, data in self._buried(low):
            newest.append(FailedBatch(sequence_index, b"", *buried_from(data)))
        return newest[::-1][:limit]

    async def _sequence_with(self, left: int, low: int, subject: str) -> int:
        """Return a sequence from which at least ``left`` matching records are to come, and not many more."""
        stream = self._store.place.records
        high = (await self._store.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] + 1
        while high - low > 1:
            middle = (low + high) // 2
            found = await self._store.get(stream, seq=middle, next_by_subj=subject, batch=1)
            if found and found[0].more + 1 >= left:
                low = found[0].sequence if found[0].sequence < high else middle
            else:
                high = middle
        return low

    async def _buried(self, sequence: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield index and record of the batches that failed, in the order of their failing."""
        place = self._store.place
        while True:
            subject = place.record("f.*")
            page = await self._store.get(place.records, seq=sequence, next_by_subj=subject, batch=_PAGE)
            for kept in page:
                self._reached = sequence = kept.sequence + 1
                yield int(kept.subject.rpartition(".")[2]), kept.data
            if not page or not page[-1].more:
                return

    async def failed_after(self, index: int, sequence: int) -> "tuple[array[int], int]":
        """Return the sorted indexes over ``index`` of what failed since ``sequence``, and the next sequence."""
        found: array[int] = array("q")
        self._reached = sequence
        async for each, _ in self._buried(sequence):
            if each > index:
                found.append(each)
        return array("q", sorted(found)), self._reached

    async def failed_batch(self, index: int) -> FailedBatch:
        """Return a batch that failed, with its body."""
        names = [self._store.place.record(f"{kind}.{index}") for kind in "fx"]
        kept = await self._store.last(names)
        return FailedBatch(index, kept[names[1]].data, *buried_from(kept[names[0]].data))
