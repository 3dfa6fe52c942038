"""What a worker is told at start, parsed once: a JSON file written by the local runner or the operator."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from batchyard.api.storage import StorageSettings


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Frozen):
    """One model that the server holds. ``versions`` ascending; the last one is ``latest``."""

    name: str
    versions: list[int] = Field(min_length=1)
    signature_key: str | None = None


class ServingSettings(_Frozen):
    """Where the model server listens (``unix:/path`` or ``host:port``) and what it serves.

    ``deadline``: seconds that a predict waits for a server that is away before it gives the batch back.
    """

    target: str
    models: list[ModelSettings]
    deadline: float = 300.0


class HandlerSettings(_Frozen):
    """The user's code. ``path`` is relative to ``project``; None means the built-in handler."""

    type: Literal["tensorflow", "python"]
    project: Path
    path: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    extra_paths: list[Path] = Field(default_factory=list)  # installed dependencies, put on sys.path
    env: dict[str, str] = Field(default_factory=dict)
    log_level: str = "INFO"


class RetrySettings(_Frozen):
    """``backoff_*`` in seconds; the delay doubles from initial to max, with jitter."""

    max_attempts: int = 3
    backoff_initial: float = 1.0
    backoff_max: float = 300.0


class ThresholdSettings(_Frozen):
    """At most one is set. More failed batches than ``batches``, or than ``percent`` of all, fail the job."""

    batches: int | None = None
    percent: float | None = None


class OutputSettings(_Frozen):
    """``path`` is absolute. ``key`` names the item's field that is copied beside each result."""

    path: str
    key: str | None = None


class WorkerSettings(_Frozen):
    """Everything one worker needs. Times in seconds, ``start_time`` in unix seconds."""

    job_id: str
    job_name: str
    worker: str
    queue: str
    handler: HandlerSettings
    serving: ServingSettings | None = None
    output: OutputSettings | None = None
    storage: StorageSettings = StorageSettings()
    retry: RetrySettings = RetrySettings()
    threshold: ThresholdSettings = ThresholdSettings()
    batch_timeout: float | None = None
    processes: int = 1
    threads: int = 1
    workers: int = 1
    start_time: float = 0.0
    lease: float = 30.0
    max_lost: int = 10
    closes_halted: bool = False  # whether this worker, and no other, closes the output of a job that was halted
    drain: float | None = None  # seconds that running batches get after SIGTERM; None: as long as they take
    log_format: Literal["json", "text"] = "json"
