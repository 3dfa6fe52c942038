"""The status of a BatchJob: how far it is, and why it ended. The constants here are the only states and reasons.

Conditions explain; nobody reads them back to decide.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from batchyard.api.scalars import Words
from batchyard.api.strict import Strict


class _Told(StrEnum):
    """A constant with its one sentence for the docs."""

    told: str

    def __new__(cls, value: str, told: str) -> "_Told":
        made = str.__new__(cls, value)
        made._value_ = value
        made.told = told
        return made


class State(_Told):
    """Where a job stands."""

    PENDING = "Pending", "Nothing runs yet."
    ENQUEUING = "Enqueuing", "The input is being cut into batches; workers may run already."
    RUNNING = "Running", "Every batch is queued; workers run them."
    COMPLETING = "Completing", "Every batch is settled; `on_job_complete` runs."
    SUSPENDED = "Suspended", "Stopped by `spec.suspend`; everything is kept."
    SUCCEEDED = "Succeeded", "Every batch succeeded."
    COMPLETED_WITH_FAILURES = "CompletedWithFailures", "Every batch is settled, and some failed for good."
    FAILED = "Failed", "The job stopped before every batch was settled; the reason says why."
    CANCELLED = "Cancelled", "Stopped by the user for good."

    @property
    def is_ended(self) -> bool:
        """Whether the job does nothing more."""
        return self in _ENDED


_ENDED = frozenset({State.SUCCEEDED, State.COMPLETED_WITH_FAILURES, State.FAILED, State.CANCELLED})


class Reason(_Told):
    """Why a job is in its state."""

    ALL_BATCHES_SUCCEEDED = "AllBatchesSucceeded", "Every batch succeeded."
    SOME_BATCHES_FAILED = "SomeBatchesFailed", "Some batches failed for good; their errors are kept."
    ON_JOB_COMPLETE_FAILED = "OnJobCompleteFailed", "Every batch is settled, but `on_job_complete` failed for good."
    MANIFEST_INVALID = "ManifestInvalid", "The manifest is wrong."
    HANDLER_INVALID = "HandlerInvalid", "The handler can't be loaded or breaks its contract."
    MODEL_INVALID = "ModelInvalid", "A model is missing, laid out wrongly, or can't be loaded."
    INPUT_INVALID = "InputInvalid", "The input is missing, empty or malformed."
    OUTPUT_INVALID = "OutputInvalid", "Results can't be written to `spec.output`."
    OUTPUT_UNAVAILABLE = "OutputUnavailable", "Results could not be written in mid-run: a full disk, a lost mount."
    ERROR_THRESHOLD_EXCEEDED = "ErrorThresholdExceeded", "More batches failed than `spec.errorThreshold` allows."
    DEADLINE_EXCEEDED = "DeadlineExceeded", "The job ran longer than `spec.timeout`."
    WORKERS_FAILED = "WorkersFailed", "Workers failed again and again without a batch to blame."
    ENQUEUER_FAILED = "EnqueuerFailed", "The enqueuer failed again and again, and not because of the input."
    QUEUE_LOST = "QueueLost", "The job's queue is gone."
    SUSPENDED_BY_USER = "SuspendedByUser", "`spec.suspend` is true."
    CANCELLED = "Cancelled", "The user cancelled the job."


class StallReason(_Told):
    """Why a job makes no progress; it may go on by itself."""

    QUEUE_UNAVAILABLE = "QueueUnavailable", "The queue doesn't answer."
    OBJECTS_REFUSED = "ObjectsRefused", "The API server refuses the Jobs, or the ConfigMap or Secret, of the job."
    PODS_REFUSED = "PodsRefused", "The cluster refuses the pods: a quota, Pod Security, a missing service account."
    UNSCHEDULABLE = "Unschedulable", "No node takes the pods; the message holds the scheduler's words."
    SCHEDULING_GATED = "SchedulingGated", "Scheduling gates hold the pods back."
    IMAGE_UNAVAILABLE = "ImageUnavailable", "An image can't be pulled."
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid", "A container can't be made: a missing Secret, say, or root."
    VOLUME_UNAVAILABLE = "VolumeUnavailable", "A volume can't be mounted."
    SERVER_FAILING = "ServerFailing", "The model server ends again and again before it has loaded the models."
    WORKERS_FAILING = "WorkersFailing", "Workers' pods fail again and again."
    ENQUEUER_FAILING = "EnqueuerFailing", "The enqueuer's pods fail again and again."
    FETCHING = "Fetching", "The project, the models or the dependencies are being fetched."
    MODELS_LOADING = "ModelsLoading", "The model server runs and has not loaded the models yet."
    PODS_NOT_STARTING = "PodsNotStarting", "Pods are not made or don't start, and nothing says why."
    NO_BATCH_RUNS = (
        "NoBatchRuns",
        "Workers are ready and batches queued, but none runs: all wait for their next attempt, or handlers start.",
    )


class ConditionType(_Told):
    """The questions that conditions answer."""

    ENQUEUED = "Enqueued", "Is every batch in the queue?"
    COMPLETE = "Complete", "Is every batch settled, and `on_job_complete` done?"
    FAILED = "Failed", "Did the job fail?"
    SUSPENDED = "Suspended", "Is it stopped by `spec.suspend`?"
    STALLED = "Stalled", "Does it make no progress? The message says why."


class FailureReason(_Told):
    """Why an attempt of a batch failed."""

    HANDLER_ERROR = "HandlerError", "The handler raised."
    BATCH_TIMEOUT = "BatchTimeout", "The attempt ran longer than `spec.batchTimeout`."
    PROCESS_DIED = "ProcessDied", "The handler's process died: exit code, signal, out of memory."
    WORKER_LOST = "WorkerLost", "Too many workers vanished with this batch in hand."
    INVALID_ITEM = "InvalidItem", "An item of the batch is malformed."
    OUTPUT_ERROR = "OutputError", "The handler's return value doesn't fit its payload, or isn't JSON."


Timestamp = Annotated[AwareDatetime, Field(strict=False), Words("a time such as 2025-01-31T12:00:00Z", "time")]


class BatchCounts(Strict):
    """Exact numbers of batches: `succeeded + failed + running + pending` is what is queued so far."""

    total: int | None = Field(default=None, ge=0, description="All batches; absent until all are queued.")
    succeeded: int = Field(default=0, ge=0, description="Succeeded.")
    failed: int = Field(default=0, ge=0, description="Failed for good.")
    running: int = Field(default=0, ge=0, description="In a worker's hands.")
    pending: int = Field(default=0, ge=0, description="Queued, in nobody's hands.")


class WorkerCounts(Strict):
    """Numbers of workers."""

    desired: int = Field(default=0, ge=0, description="Workers that should run.")
    ready: int = Field(default=0, ge=0, description="Workers that take batches.")


class FailureSummary(Strict):
    """A batch that failed for good."""

    batch: int = Field(ge=0, description="The batch's index, from 0.")
    attempts: int = Field(ge=0, description="Attempts that failed.")
    reason: str | None = Field(default=None, description="Why the last attempt failed; see the reasons of failures.")
    error: str = Field(description="The last error, one line.")
    time: Timestamp = Field(description="When.")


class Condition(Strict):
    """One answer about the job, as in Kubernetes."""

    type: Annotated[ConditionType, Field(strict=False)] = Field(description="The question.")
    status: Literal["True", "False", "Unknown"] = Field(description="The answer.")
    reason: str = Field(description="Why, as a constant.")
    message: str = Field(default="", description="Why, for a person.")
    last_transition_time: Timestamp = Field(description="When the answer last changed.")
    observed_generation: int | None = Field(default=None, description="Generation of the spec that was looked at.")


class Status(Strict):
    """How a job goes. Its size is bounded whatever the job's."""

    observed_generation: int | None = Field(default=None, description="Generation of the spec that was looked at.")
    state: Annotated[State, Field(strict=False)] | None = Field(default=None, description="Where the job stands.")
    reason: str | None = Field(default=None, description="Why, as a constant.")
    message: str | None = Field(default=None, description="Why, for a person.")
    start_time: Timestamp | None = Field(default=None, description="When the job started.")
    completion_time: Timestamp | None = Field(default=None, description="When it ended.")
    batches: BatchCounts | None = Field(default=None, description="Exact numbers of batches.")
    workers: WorkerCounts | None = Field(default=None, description="Numbers of workers.")
    progress: str | None = Field(default=None, description="Settled of all batches: `529/1000`.")
    rate: str | None = Field(default=None, description="Batches settled lately: `12.4/s`.")
    estimated_completion_time: Timestamp | None = Field(default=None, description="When it ends at the present rate.")
    failures: list[FailureSummary] = Field(default_factory=list, max_length=10, description="The newest failures.")
    conditions: list[Condition] = Field(default_factory=list, description="Answers, one a type.")
