"""Everything that moves a job from state to state, as an ordered chain of rules: the first that applies decides.

Recomputed from spec and world each turn. A state that has ended is the one thing that is believed of a status: it was
written once, from the queue, and nothing that comes later (a lost queue, another spec) takes it back.
"""

from collections.abc import Callable
from datetime import datetime

from batchyard.api.in_cluster import problems
from batchyard.api.status import Reason, State, Status
from batchyard.queue.ending import ending

from batchyard_operator.decide import counts
from batchyard_operator.decide.halts import deadline, halting
from batchyard_operator.decide.stalls import stall
from batchyard_operator.decide.statuses import Standing, built, dumped, followed
from batchyard_operator.decide.told import told
from batchyard_operator.decide.turn import Limits, Turn, moment, read_turn
from batchyard_operator.model import ChildSeen, Decision, Halting, Observation, Wanted

SOON = 1.0
"""Seconds to the next look while something moves."""

LATER = 5.0
"""Seconds to the next look while nothing does; events, and the queue's own word, wake earlier."""

SELDOM = 60.0
"""Seconds to the next look at a job of which nothing runs."""


def decide(observation: Observation, limits: Limits) -> Decision:
    """Return everything that is to be done about a job now. Pure: the same observation gives the same decision."""
    turn = read_turn(observation, limits)
    for rule in _RULES:
        decision = rule(turn)
        if decision is not None:
            return decision
    return _going(turn)


def _deleting(turn: Turn) -> Decision | None:
    """Give back what a deleted job holds: first its children, then its queue, then its name."""
    job, seen = turn.seen.job, turn.seen
    if not job.is_deleting:
        return None
    if seen.pods or seen.workers is not None or seen.enqueuer is not None:
        return Decision(remove_children=True, again=SOON)
    if not job.has_finalizer:
        return Decision()
    return Decision(drop_queue=True, drop_finalizer=True, again=LATER)


def _has_ended(turn: Turn) -> Decision | None:
    """Keep what the job ended as; stop workers that don't leave; delete the job when its time is over."""
    if turn.before.state is None or not turn.before.state.is_ended:
        return None
    status = followed(turn)
    end = status.completion_time.timestamp() if status.completion_time else turn.now
    alive = turn.alive
    job = turn.seen.job.job
    ttl = job.spec.ttl_seconds_after_finished if job is not None else None
    left = None if ttl is None else end + ttl - turn.now
    farewell = end + turn.limits.farewell - turn.now
    looks = [look for look in (left, max(farewell, LATER) if alive else None) if look is not None]
    is_over = left is not None and left <= 0
    return Decision(
        status=dumped(status),
        wanted=_stopped(turn) if alive and farewell <= 0 and job is not None else None,
        remove_children=bool(alive) and farewell <= 0 and job is None,
        delete_job=is_over,
        again=LATER if is_over else min(looks, default=None),
    )


def _stopped(turn: Turn) -> Wanted | None:
    """Return both Jobs suspended: their pods get SIGTERM, the Jobs and what they say stay."""
    job, workers, enqueuer = turn.seen.job.job, turn.seen.workers, turn.seen.enqueuer
    runs = [child for child in (workers, enqueuer) if _is_running(child)]
    if job is None or not any(not child.suspended for child in runs if child is not None):
        return None
    return Wanted(job.spec.workers, suspend=True, enqueuer=_is_running(enqueuer))


def _is_running(child: ChildSeen | None) -> bool:
    return child is not None and not (child.complete or child.failed or child.is_deleting)


def _refused(turn: Turn) -> Decision | None:
    """Refuse a manifest that can't run in a cluster: nothing is made for it."""
    job = turn.seen.job
    said = list(job.problems) or (problems(job.job) if job.job is not None else ["the manifest can't be read"])
    if not said:
        return None
    message = " ".join(said)
    is_open = turn.queue is not None and not turn.queue.is_over
    halt = Halting(Reason.MANIFEST_INVALID, message) if is_open else None
    return _ended(turn, Standing(State.FAILED, Reason.MANIFEST_INVALID, message), halt)


def _without_finalizer(turn: Turn) -> Decision | None:
    """Hold the job's name first: what is made before could outlive it."""
    if turn.seen.job.has_finalizer:
        return None
    return _standing(turn, _resting(turn), Decision(add_finalizer=True, again=SOON))


def _without_queue(turn: Turn) -> Decision | None:
    """Make the queue, and write down that it was made: from then on one that is gone is lost.

    A crash between the two makes it again, which changes nothing: no child stands before the second. A server that
    doesn't answer is not asked to make anything; the status says so.
    """
    if turn.started is not None:
        return None
    if turn.seen.queue.known == "away":
        return _standing(turn, _resting(turn), Decision(again=LATER))
    return _standing(turn, _resting(turn), Decision(make_queue=True, again=SOON), started=moment(turn.now))


def _lost(turn: Turn) -> Decision | None:
    """End a job whose queue is gone: which batches are settled is known to nobody any more."""
    if turn.seen.queue.known != "lost":
        return None
    why = f": {turn.seen.queue.why}" if turn.seen.queue.why else ""
    message = f"the job's queue is gone{why}; what was written to spec.output stays"
    return _ended(turn, Standing(State.FAILED, Reason.QUEUE_LOST, message))


def _over(turn: Turn) -> Decision | None:
    """End a job as its queue says: halted, or its completion token settled."""
    end = ending(turn.queue) if turn.queue is not None else None
    return _ended(turn, Standing(end.state, end.reason, end.message)) if end is not None else None


def _going(turn: Turn) -> Decision:
    """Keep a job going: its children as the spec wants them, or the halt that ends it."""
    halt = halting(turn) if turn.queue is not None else None
    wanted = None if halt is not None else _wanted(turn)
    state = State.SUSPENDED if turn.is_suspended else _state(turn)
    why = Reason.SUSPENDED_BY_USER if state is State.SUSPENDED else None
    standing = Standing(state, why, why.told if why else None, stall(turn))
    return _standing(turn, standing, Decision(halt=halt, wanted=wanted, again=SOON if halt else _again(turn)))


def _state(turn: Turn) -> State:
    queue = turn.queue
    if queue is None:
        was = turn.before.state
        return was if was is not None and was is not State.SUSPENDED else State.PENDING
    if queue.sealed:
        return State.COMPLETING if queue.counts.settled >= queue.counts.published else State.RUNNING
    begun = queue.counts.published or any(pod.phase == "Running" for pod in turn.seen.pods)
    return State.ENQUEUING if begun else State.PENDING


def _wanted(turn: Turn) -> Wanted | None:
    """Return the children; None while one is being deleted (its name is free only when its pods are gone)."""
    job, workers, enqueuer = turn.seen.job.job, turn.seen.workers, turn.seen.enqueuer
    if job is None or any(child is not None and child.is_deleting for child in (workers, enqueuer)):
        return None
    needed = turn.reads_files and not turn.is_sealed
    if turn.queue is None:  # nothing new is begun without a look at the queue
        needed = needed and _is_running(enqueuer)
    return Wanted(job.spec.workers, job.spec.suspend, needed)


def _again(turn: Turn) -> float:
    if turn.is_suspended and not turn.seen.pods:
        return SELDOM
    shown = counts.shown(turn.queue, turn.before)
    look = SOON if shown != turn.before.batches or _settles(turn) else LATER
    left = deadline(turn)
    return look if left is None else min(look, max(left, 0.1))


def _settles(turn: Turn) -> bool:
    """Tell whether batches were settled since the look before the last, be it a late one."""
    recent = [sample for sample in turn.seen.history if turn.now - sample.time <= 2.5 * LATER]
    return bool(recent) and turn.queue is not None and turn.queue.counts.settled > recent[0].settled


def _resting(turn: Turn) -> Standing:
    """Return how a job stands of which nothing runs yet."""
    if turn.is_suspended:
        return Standing(State.SUSPENDED, Reason.SUSPENDED_BY_USER, Reason.SUSPENDED_BY_USER.told)
    return Standing(State.PENDING, stall=stall(turn))


def _ended(turn: Turn, standing: Standing, halt: Halting | None = None) -> Decision:
    return _standing(turn, standing, Decision(halt=halt, again=SOON), is_urgent=True)


def _standing(
    turn: Turn, standing: Standing, done: Decision, *, started: datetime | None = None, is_urgent: bool = False
) -> Decision:
    """Return a decision with the status of a job that stands so, and the Events of what changed by it."""
    status: Status = built(turn, standing, started=started)
    return Decision(
        add_finalizer=done.add_finalizer,
        make_queue=done.make_queue,
        halt=done.halt,
        wanted=done.wanted,
        status=dumped(status),
        events=told(turn.before, status),
        again=done.again,
        urgent=is_urgent or turn.before.state is None,
    )


_RULES: tuple[Callable[[Turn], Decision | None], ...] = (
    _deleting,
    _has_ended,
    _refused,
    _without_finalizer,
    _without_queue,
    _lost,
    _over,
)
