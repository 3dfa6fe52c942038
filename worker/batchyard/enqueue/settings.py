"""What the enqueuer is told at start, parsed once: a JSON file written by the local runner or the operator."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batchyard.api.storage import StorageSettings


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class InputSettings(_Frozen):
    """Where the items are. ``kind`` says which of the fields count.

    ``items``: inline, or ``items_file``: a file that holds them as one JSON array. ``files`` and ``delimitedFiles``:
    ``paths`` are files, folders or globs; ``includes`` and ``excludes`` are globs over the path below each.
    """

    kind: Literal["items", "files", "delimitedFiles"]
    items: list[Any] = Field(default_factory=list)
    items_file: Path | None = None
    paths: list[str] = Field(default_factory=list)
    includes: list[str] = Field(default_factory=list)
    excludes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_its_fields(self) -> "InputSettings":
        if self.kind != "items" and not self.paths:
            raise ValueError(f"kind {self.kind!r}: found no paths, expected at least one")
        return self


class EnqueueSettings(_Frozen):
    """Everything the enqueuer needs.

    ``queue``: its URL. ``job_id``: names the job's own part of the work prefix. ``folder``: what relative paths are
    relative to. ``tolerate_malformed``: a malformed line becomes a batch that fails instead of failing the job.
    ``allow_empty``: no items is a job that succeeds.
    """

    queue: str = ""
    job_id: str = ""
    input: InputSettings
    folder: Path = Path()
    storage: StorageSettings = StorageSettings()
    batch_size: int = Field(default=1, ge=1)
    tolerate_malformed: bool = False
    allow_empty: bool = False
    log_format: Literal["json", "text"] = "json"

    def digest(self) -> str:
        """Return what tells whether batches cut under other settings can be continued under these.

        Not ``tolerate_malformed``: batches are cut the same with and without it, and a job that stopped at a
        malformed line goes on once an errorThreshold allows it.
        """
        cut = self.model_dump_json(include={"input", "folder", "batch_size"})
        return hashlib.blake2b(cut.encode(), digest_size=8).hexdigest()
