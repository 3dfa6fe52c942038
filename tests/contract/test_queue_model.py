"""The SQLite engine against a model of the port in plain Python: any order of operations, exact after each one.

The clock is injected, so leases run out without waiting; two handles share the file and every step uses one of them.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from batchyard.queue.port import COMPLETION, Completion, Counts, Delivery, Failure, PublishConflict
from batchyard.queue.sqlite import SqliteQueue
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

SECONDS = st.sampled_from([0, 0, 1, 10, 40])
WHICH = st.integers(0, 1)


@dataclass
class Expected:
    """What the model knows of a batch, or of the token. ``due`` None: never given out."""

    body: bytes
    due: float | None = None
    holder: Delivery | None = None
    owner: str = ""
    attempts: int = 0
    lost: int = 0
    newest: Failure | None = None
    outcome: str = ""


@dataclass
class Model:
    batches: list[Expected] = field(default_factory=list)
    token: Expected | None = None
    cursor: bytes = b""
    halted: bool = False
    buried: list[int] = field(default_factory=list)

    def of(self, index: int) -> Expected:
        return self.token if index == COMPLETION else self.batches[index]

    def count(self, outcome: str) -> int:
        return sum(batch.outcome == outcome for batch in self.batches)

    def due(self, now: float, limit: int) -> list[int]:
        """The indexes that must be given out next, in order."""
        if self.halted:
            return []
        open_ = [(i, b) for i, b in enumerate(self.batches) if not b.outcome]
        back = sorted((b.due, i) for i, b in open_ if b.due is not None and b.due <= now)
        fresh = [i for i, b in open_ if b.due is None and (self.token or 2 * i < len(self.batches))]
        return ([i for _, i in back] + fresh)[:limit]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.path = Path(self.folder) / "queue.db"
        self.now = 1_000_000
        self.model = Model()
        self.given = []
        self.queues = [
            SqliteQueue.create(self.path, "a", lambda: self.now),
            SqliteQueue.open(self.path, "b", lambda: self.now),
        ]

    def teardown(self):
        for queue in self.queues:
            queue.close()
        shutil.rmtree(self.folder)

    def expect_given(self, delivery, owner, lease):
        expected = self.model.of(delivery.index)
        expected.lost += expected.holder is not None
        assert (delivery.body, delivery.attempts, delivery.lost) == (expected.body, expected.attempts, expected.lost)
        assert delivery.lease not in [d.lease for d in self.given]
        expected.holder, expected.due, expected.owner = delivery, self.now + lease, owner
        self.given.append(delivery)

    def draw(self, data):
        """One delivery: mostly one that is held, so that steps move something; sometimes a stale one."""
        live = [d for d in self.given if self.held(d)]
        stale = not live or data.draw(st.integers(0, 4)) == 0
        return data.draw(st.sampled_from(self.given if stale else live))

    def draw_some(self, data):
        return [self.draw(data) for _ in range(data.draw(st.integers(1, 4)))]

    def held(self, delivery):
        expected = self.model.of(delivery.index)
        return expected if expected.holder is delivery and not expected.outcome else None

    @initialize(count=st.integers(0, 6), sealed=st.booleans())
    def start(self, count, sealed):
        self.publish(0, 0, count)
        if sealed:
            self.seal(0, 0)

    # --- enqueuer ---
    @rule(which=WHICH, off=st.sampled_from([0, 0, -1, 1]), count=st.integers(0, 4))
    def publish(self, which, off, count):
        first = len(self.model.batches) + off
        bodies = [b"%d/%d" % (first + i, self.now) for i in range(count)]
        cursor = b"cursor %d" % self.now
        if off or self.model.token:
            with pytest.raises(PublishConflict):
                self.queues[which].publish(first, bodies, cursor)
        else:
            self.queues[which].publish(first, bodies, cursor)
            self.model.batches += [Expected(body) for body in bodies]
            self.model.cursor = cursor

    @rule(which=WHICH, off=st.sampled_from([0, 0, 1]))
    def seal(self, which, off):
        published = len(self.model.batches) + off
        if off:
            with pytest.raises(PublishConflict):
                self.queues[which].seal(published, 7)
        else:
            self.queues[which].seal(published, 7)
            self.model.token = self.model.token or Expected(b"", due=self.now)

    # --- worker ---
    @rule(which=WHICH, limit=st.integers(0, 5), lease=st.sampled_from([1, 10, 40]))
    def receive(self, which, limit, lease):
        due = self.model.due(self.now, limit)
        taken = self.queues[which].receive(limit, lease, 0)
        assert [d.index for d in taken] == due
        for delivery in taken:
            self.expect_given(delivery, "ab"[which], lease)

    @rule(which=WHICH, lease=st.sampled_from([1, 10, 40]))
    def receive_completion(self, which, lease):
        delivery = self.queues[which].receive_completion(lease)
        token = self.model.token
        free = token is not None and not token.outcome and token.due <= self.now and not self.model.halted
        assert (delivery is not None) == (free and all(batch.outcome for batch in self.model.batches))
        if delivery:
            self.expect_given(delivery, "ab"[which], lease)

    @rule(which=WHICH, data=st.data())
    @precondition(lambda self: self.given)
    def ack(self, which, data):
        chosen = self.draw_some(data)
        answers = []
        for delivery in chosen:
            expected = self.held(delivery)
            answers.append(expected is not None)
            if expected:
                expected.outcome, expected.newest = "succeeded", None
        assert self.queues[which].ack(chosen) == answers

    @rule(which=WHICH, data=st.data(), seconds=SECONDS, extend=st.booleans())
    @precondition(lambda self: self.given)
    def release_or_extend(self, which, data, seconds, extend):
        chosen = self.draw_some(data)
        answers = []
        for delivery in chosen:
            expected = self.held(delivery)
            answers.append(expected is not None)
            if expected:
                expected.due = self.now + seconds
                expected.holder = delivery if extend else None
        queue = self.queues[which]
        assert (queue.extend if extend else queue.release)(chosen, seconds) == answers

    @rule(which=WHICH, data=st.data(), delay=SECONDS)
    @precondition(lambda self: self.given)
    def retry(self, which, data, delay):
        delivery = self.draw(data)
        expected = self.held(delivery)
        failure = Failure("HandlerError", f"retry at {self.now}")
        assert self.queues[which].retry(delivery, delay, failure) == (expected is not None)
        if expected:
            expected.holder, expected.due, expected.newest = None, self.now + delay, failure
            expected.attempts += 1

    @rule(which=WHICH, data=st.data(), attempted=st.booleans())
    @precondition(lambda self: self.given)
    def bury(self, which, data, attempted):
        delivery = self.draw(data)
        expected = self.held(delivery)
        failure = Failure("BatchTimeout", f"bury at {self.now}")
        assert self.queues[which].bury(delivery, failure, attempted=attempted) == (expected is not None)
        if expected:
            expected.outcome = "failed"
            expected.attempts += attempted
            expected.newest = failure if attempted else expected.newest
            if delivery.index != COMPLETION:
                self.model.buried.insert(0, delivery.index)

    # --- everyone ---
    @rule(which=WHICH, owner=st.sampled_from(["a", "b", "nobody", None]), lost=st.booleans())
    def reclaim(self, which, owner, lost):
        everything = [*self.model.batches, *filter(None, [self.model.token])]
        mine = [b for b in everything if not b.outcome and b.holder and owner in (b.owner, None)]
        mine = [b for b in mine if b.due > self.now or not lost]
        assert self.queues[which].reclaim(owner, lost=lost) == len(mine)
        for batch in mine:
            batch.due = min(batch.due, self.now)
            batch.holder = batch.holder if lost else None

    @rule(which=WHICH, halted=st.sampled_from([False, False, False, True]))
    def halt_or_resume(self, which, halted):
        if halted:
            self.queues[which].halt("Cancelled", "")
        else:
            self.queues[which].resume()
        self.model.halted = halted

    @rule(seconds=SECONDS)
    def pass_time(self, seconds):
        self.now += seconds

    @rule(which=WHICH)
    def reopen(self, which):
        self.queues[which].close()
        self.queues[which] = SqliteQueue.open(self.path, "ab"[which], lambda: self.now)

    # --- exact after each step ---
    @invariant()
    def the_counts_are_exact(self):
        model = self.model
        running = sum(bool(not b.outcome and b.holder and b.due > self.now) for b in model.batches)
        counts = Counts(len(model.batches), model.count("succeeded"), model.count("failed"), running)
        for queue in self.queues:
            state = queue.state()
            assert state.counts == counts
            assert state.counts.pending >= 0
            assert (state.halt is not None) == model.halted
            assert state.items == (7 if model.token else None)
            outcome = model.token and (model.token.outcome or "waiting")
            assert state.completion is Completion(outcome or "absent")

    @invariant()
    def the_rest_is_as_it_was_left(self):
        queue, model = self.queues[0], self.model
        assert [(b.index, b.attempts, b.body) for b in queue.failed()] == [
            (i, b.attempts, b.body) for i, b in enumerate(model.batches) if b.outcome == "failed"
        ]
        assert [b.index for b in queue.recent_failures(3)] == model.buried[:3]
        assert [queue.last_attempt_failure(i) for i in range(len(model.batches))] == [b.newest for b in model.batches]
        position = queue.position()
        assert (position.published, position.cursor) == (len(model.batches), model.cursor)
        assert position.sealed == (model.token is not None)


TestQueueAgainstItsModel = QueueMachine.TestCase
TestQueueAgainstItsModel.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
