"""Whatever happens to a job, in any order: what a turn must never do."""

from dataclasses import dataclass, field, replace
from typing import Any

from batchyard.api.spec import BatchJob
from batchyard.api.status import State, Status
from batchyard.queue.port import Completion, Counts, Failure, Halt
from batchyard.queue.port import State as QueueState
from batchyard_operator.decide import Limits, decide
from batchyard_operator.decide.turn import moment
from batchyard_operator.model import ChildSeen, Decision, JobSeen, Key, Observation, PodSeen, QueueSeen, Sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operator_builders import NOW, batch_job, child, failed, fetched, handler, pod, ready, serving, waits

LIMITS = Limits(startup=60)
SPECS: list[dict[str, Any]] = [
    {},
    {"workers": 5},
    {"suspend": True},
    {"timeout": "5m"},
    {"ttlSecondsAfterFinished": 60},
]
PODS: list[tuple[PodSeen, ...]] = [
    (),
    (ready(),),
    (pod("digits-workers-0-b", unscheduled="no node"),),
    (failed(message="boom"),),
    (failed(code=64),),
    (pod("digits-workers-0-c", fetched(), serving(started=False, restarts=9, exit_code=1), waits("handler")),),
    (pod("digits-enqueuer-x", fetched(exit_code=64, terminated="Error"), phase="Failed"), ready()),
    (pod("digits-workers-0-d", handler(), phase="Running", is_ready=True, is_deleting=True),),
]
CHILDREN: list[ChildSeen | None] = [
    None,
    child(),
    child(complete=True),
    child(failed=True, failed_reason="FailedIndexes"),
    child(is_deleting=True),
    child(events=("exceeded quota",), active=0),
]
HALTS = [Halt("HandlerInvalid", "no class"), Halt("Cancelled", "by the user")]


@dataclass
class World:
    """A cluster that does what decisions say, and what it likes besides."""

    now: float = NOW
    job: BatchJob = field(default_factory=batch_job)
    generation: int = 1
    status: Any = None
    has_finalizer: bool = False
    is_deleting: bool = False
    is_made: bool = False
    is_lost: bool = False
    published: int = 0
    succeeded: int = 0
    failed: int = 0
    running: int = 0
    dip: int = 0
    sealed: bool = False
    completion: Completion | None = None
    halt: Halt | None = None
    workers: ChildSeen | None = None
    enqueuer: ChildSeen | None = None
    pods: tuple[PodSeen, ...] = ()
    is_away: bool = False
    history: tuple[Sample, ...] = ()
    is_gone: bool = False

    def seen(self) -> Observation:
        job = JobSeen(
            Key("default", "digits"),
            "uid",
            self.generation,
            NOW,
            self.is_deleting,
            self.has_finalizer,
            self.job,
            (),
            self.status or {},
        )
        pods, workers, enqueuer = self.pods, self.workers, self.enqueuer
        history = tuple(s for s in self.history if s.time > self.now - 60)
        return Observation(self.now, job, self.queue(), workers, enqueuer, pods, history)

    def queue(self) -> QueueSeen:
        if self.is_away:
            return QueueSeen("away", why="refused", since=self.now - 20)
        if "startTime" not in (self.status or {}):
            return QueueSeen("unmade")
        if self.is_lost or not self.is_made:
            return QueueSeen("lost")
        shown = max(0, self.succeeded - self.dip)
        running = min(self.running, self.published - shown - self.failed)
        counts = Counts(self.published, shown, self.failed, running)
        completion = self.completion or (Completion.WAITING if self.sealed else Completion.ABSENT)
        failure = Failure("HandlerError", "no mail") if completion is Completion.FAILED else None
        return QueueSeen("here", QueueState(counts, completion, failure, self.halt, self.published))

    def obey(self, decision: Decision) -> None:
        self.has_finalizer = (self.has_finalizer or decision.add_finalizer) and not decision.drop_finalizer
        self.is_made = self.is_made or decision.make_queue
        if decision.halt is not None and self.halt is None and not self.is_away:
            self.halt = Halt(decision.halt.reason, decision.halt.message)
        if decision.wanted is not None and self.workers is None:
            self.workers = child(created=self.now)
        if decision.remove_children and self.workers is not None:
            self.workers = replace(self.workers, is_deleting=True)
        if decision.status is not None:
            self.status = dict(decision.status)
        self.is_gone = decision.drop_finalizer


def happen(world: World, data: st.DataObject) -> None:
    """Let something happen: time goes on, and at most one thing more changes."""
    world.now += data.draw(st.sampled_from([0.3, 1.0, 7.0, 61.0, 400.0]))
    match data.draw(st.sampled_from(["batches", "batches", "batches", "world", "user", "end"])):
        case "batches" if world.is_made and world.halt is None and world.completion is None:
            more = data.draw(st.integers(0, 5))
            world.published += 0 if world.sealed else more
            left = world.published - world.succeeded - world.failed
            good = data.draw(st.integers(0, left))
            bad = data.draw(st.integers(0, left - good))
            world.succeeded, world.failed = world.succeeded + good, world.failed + bad
            world.running = data.draw(st.integers(0, left - good - bad))
            world.dip = data.draw(st.sampled_from([0, 0, 1]))
            world.history += (Sample(world.now, world.succeeded + world.failed, world.running),)
            world.sealed = world.sealed or data.draw(st.booleans())
        case "world":
            world.pods = data.draw(st.sampled_from(PODS)) if world.workers else world.pods
            world.workers = data.draw(st.sampled_from(CHILDREN)) if world.workers else None
            world.is_away = data.draw(st.sampled_from([False, False, True]))
            world.is_lost = data.draw(st.sampled_from([False] * 9 + [True]))
        case "user":
            world.job = batch_job(**data.draw(st.sampled_from(SPECS)))
            world.generation += 1
            world.is_deleting = world.is_deleting or data.draw(st.sampled_from([False] * 6 + [True]))
            world.halt = world.halt or data.draw(st.sampled_from([None, None, None, *HALTS]))
        case "end" if world.sealed and world.succeeded + world.failed == world.published:
            world.completion = data.draw(st.sampled_from([Completion.SUCCEEDED, Completion.FAILED]))
        case _:
            if world.is_deleting:
                world.workers, world.pods = None, ()


def check_status(before: Any, decision: Decision, world: World) -> None:
    """The status is one that the API takes, what has ended stays, and no count goes back."""
    if decision.status is None:
        return
    after = Status.model_validate(dict(decision.status))
    was = Status.model_validate(before or {})
    if was.state is not None and was.state.is_ended:
        for name in ("state", "reason", "message", "start_time", "completion_time"):
            assert getattr(after, name) == getattr(was, name)
        assert [c.last_transition_time for c in after.conditions] == [c.last_transition_time for c in was.conditions]
        assert not decision.events
    stood = {c.type: c for c in was.conditions}
    for condition in after.conditions:
        old = stood.get(condition.type)
        is_kept = old is not None and old.status == condition.status
        assert condition.last_transition_time == (old.last_transition_time if old and is_kept else moment(world.now))
    assert after.observed_generation == world.generation
    if was.start_time is not None:
        assert after.start_time == was.start_time
    if was.batches is not None:
        assert after.batches is not None
        assert after.batches.succeeded >= was.batches.succeeded
        assert after.batches.failed >= was.batches.failed
    if after.batches is not None:
        assert after.batches.succeeded <= world.succeeded
        assert after.batches.failed <= world.failed


def check_effects(decision: Decision, seen: Observation) -> None:
    """Nothing is made before it may be, nothing is dropped before its time."""
    if decision.make_queue or decision.wanted is not None:
        assert seen.job.has_finalizer
        assert not seen.job.is_deleting
    if decision.wanted is not None:
        assert "startTime" in seen.job.status
    if decision.drop_queue or decision.drop_finalizer:
        assert decision.drop_queue
        assert decision.drop_finalizer
        assert seen.job.is_deleting
        assert not seen.pods
        assert seen.workers is None
        assert seen.enqueuer is None
    if decision.halt is not None:
        assert seen.queue.state is not None
        assert not seen.queue.state.is_over
    if decision.delete_job:
        assert State(seen.job.status["state"]).is_ended
    assert decision.again is None or decision.again > 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_life_of_a_job(data: st.DataObject) -> None:
    world = World()
    for _ in range(data.draw(st.integers(5, 25))):
        seen, before = world.seen(), world.status
        decision = decide(seen, LIMITS)
        check_status(before, decision, world)
        check_effects(decision, seen)
        assert decide(seen, LIMITS) == decision
        if decision.status is not None:
            written = replace(seen, job=replace(seen.job, status=decision.status))
            again = decide(written, LIMITS)
            assert again.status == decision.status, "a status just written says the same again"
            assert not again.events
        world.obey(decision)
        if world.is_gone:
            return
        happen(world, data)
