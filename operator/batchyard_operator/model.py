"""What a turn sees and what it decides, as frozen values; apart because every room of the operator speaks in them.

An Observation is everything a decision may look at. A Decision is everything that is done about it. Nothing else
passes between observing, deciding and acting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from batchyard.api.spec import BatchJob
from batchyard.queue.port import FailedBatch, State

FINALIZER = "batchyard.dev/queue"
"""Held while the job has streams; never the name kopf uses for its own, which it strips."""

JOB_LABEL = "batchyard.dev/job"
"""Label of every child: the job's name. The watches of children select by it."""

UID_LABEL = "batchyard.dev/job-uid"

FETCH, SERVING, HANDLER, ENQUEUER = "fetch", "serving", "handler", "enqueuer"
"""Names of the containers: the first three in a worker's pod, the last one in the enqueuer's."""


@dataclass(frozen=True, slots=True)
class Key:
    """A BatchJob by namespace and name: the entries of the work queue."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The BatchJob itself.

    ``job`` is None when the object breaks a rule that the API server couldn't check; ``problems`` are then its
    sentences. ``status`` is the object's own, as it stands. ``is_deleting``: it is being deleted, or its namespace
    is. Times in unix seconds.
    """

    key: Key
    uid: str
    generation: int
    created: float
    is_deleting: bool
    has_finalizer: bool
    job: BatchJob | None
    problems: tuple[str, ...]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    """One container of a pod, init containers included.

    ``waiting`` and ``terminated`` are the state's reason, ``message`` its message; ``exit_code`` is that of the
    current, else of the last termination, and ``last_message`` the message of that same termination (a container
    in CrashLoopBackOff says there why it ended). ``started``: its startup probe passed. ``since``: when the current
    state began, unix seconds: a start while it runs, an end once it is terminated, 0 while it waits.
    """

    name: str
    ready: bool = False
    started: bool = False
    restarts: int = 0
    waiting: str = ""
    terminated: str = ""
    message: str = ""
    exit_code: int | None = None
    last_message: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod of the job. ``unscheduled``: the scheduler's own words, empty once it has a node.

    ``component``: ``worker`` or ``enqueuer``. ``phase`` as in Kubernetes. ``is_disrupted``: DisruptionTarget is true.
    ``reason`` and ``message`` are the pod's own (``Evicted``, and the kubelet's words).
    """

    name: str
    component: str
    phase: str
    created: float
    is_ready: bool
    is_deleting: bool
    unscheduled: str = ""
    unscheduled_reason: str = ""
    is_disrupted: bool = False
    reason: str = ""
    message: str = ""
    containers: tuple[ContainerSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class ChildSeen:
    """A child Job: the workers' or the enqueuer's.

    ``complete`` and ``failed``: the conditions of these types are true; ``failed`` also when FailureTarget is.
    ``events``: its newest ``FailedCreate`` messages, looked up only while pods are missing. ``failed_indexes``: those
    of an Indexed Job that are given up for good, as Kubernetes writes them (``0,3-5``).
    """

    name: str
    uid: str
    created: float
    parallelism: int
    suspended: bool
    active: int
    ready: int
    complete: bool
    failed: bool
    failed_reason: str = ""
    failed_message: str = ""
    is_deleting: bool = False
    events: tuple[str, ...] = ()
    failed_indexes: str = ""


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """The job's queue at this turn, looked at after the children: a Job seen ended has left its word in the queue.

    ``known``: not looked at (no streams were made yet) / here / lost (its streams are gone) / away (the server does
    not answer; ``why`` says so, ``since`` in unix seconds). ``recent``: the newest batches that failed, bodies empty.
    """

    known: Literal["unmade", "here", "lost", "away"]
    state: State | None = None
    recent: tuple[FailedBatch, ...] = ()
    why: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """How many batches were settled, and how many ran, at a moment (unix seconds); a few of them make a rate."""

    time: float
    settled: int
    running: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything one decision may look at. ``now`` in unix seconds.

    ``history``: samples of the last minute, oldest first; empty after the operator's start. ``mount_failures``:
    newest ``FailedMount`` messages of pods that wait. ``apply_error``: what the API server said when it refused a
    child at the last turn, empty since it took them.
    """

    now: float
    job: JobSeen
    queue: QueueSeen
    workers: ChildSeen | None = None
    enqueuer: ChildSeen | None = None
    pods: tuple[PodSeen, ...] = ()
    history: tuple[Sample, ...] = ()
    mount_failures: tuple[str, ...] = ()
    apply_error: str = ""


@dataclass(frozen=True, slots=True)
class Halting:
    """Halt the queue with this reason, unless it is halted already."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The children that should be there. None leaves what there is as it is.

    ``workers``: parallelism of the workers' Job. ``suspend``: both Jobs suspended. ``enqueuer``: whether an enqueuer
    is needed (its input is not inline, and the queue is not sealed); False leaves one that is there as it is.
    """

    workers: int
    suspend: bool
    enqueuer: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A Kubernetes Event on the BatchJob, one a transition."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that is done at the end of a turn, in this order.

    ``add_finalizer``; ``make_queue`` (create when no status says that it was made, idempotent); ``halt``; ``wanted``
    (render and apply); ``remove_children`` (delete the child Jobs, foreground, and pods of the job that no Job owns
    any more); ``drop_queue`` (delete the streams); ``drop_finalizer`` (only once the streams are deleted);
    ``status`` (the whole of it, written only if it differs; None leaves it); ``events``; ``delete_job`` (its time to
    live is over). ``again``: seconds until the next look, None for events alone.
    """

    add_finalizer: bool = False
    make_queue: bool = False
    halt: Halting | None = None
    wanted: Wanted | None = None
    remove_children: bool = False
    drop_queue: bool = False
    drop_finalizer: bool = False
    status: Mapping[str, Any] | None = None
    events: tuple[Told, ...] = ()
    delete_job: bool = False
    again: float | None = None
    urgent: bool = field(default=False)
    """A first or last status: it may use the reserve of the write budget."""
