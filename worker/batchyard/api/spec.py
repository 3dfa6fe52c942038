"""The BatchJob as strict pydantic models: the one source of its schema, defaults, docs and local checks."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from batchyard.api.handler import (
    Dependencies,
    EnvVar,
    Handler,
    ModelEntry,
    Models,
    NamedModel,
    Project,
    Resources,
)
from batchyard.api.pod import Pod
from batchyard.api.scalars import Duration, JobName, Place, PositiveDuration, SetByKubernetes, Text, seconds_of
from batchyard.api.status import Status
from batchyard.api.storage import Storage
from batchyard.api.strict import Flaw, Strict

__all__ = [
    "API_VERSION",
    "KIND",
    "MUTABLE",
    "Backoff",
    "BatchJob",
    "Dependencies",
    "EnvVar",
    "ErrorThreshold",
    "FileSet",
    "Handler",
    "Input",
    "Metadata",
    "ModelEntry",
    "Models",
    "NamedModel",
    "Output",
    "Pod",
    "Project",
    "Resources",
    "Retry",
    "Spec",
    "Storage",
]

API_VERSION = "batchyard.dev/v1alpha1"
KIND = "BatchJob"
MAX_ITEMS_BYTES = 1 << 20  # what the API server takes an object
MUTABLE = ("workers", "suspend", "ttlSecondsAfterFinished", "timeout")
"""The fields of ``spec`` that may change after creation."""


class Metadata(Strict):
    """Name and labels, as of any Kubernetes object."""

    name: JobName = Field(
        description="The job's name: at most 50 lowercase letters, digits and dashes, because the names of its "
        "parts are made from it."
    )
    namespace: Text | None = Field(default=None, description="Namespace. Cluster only.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the job.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the job.")
    uid: SetByKubernetes = Field(default=None, description="Set by Kubernetes.")
    resource_version: SetByKubernetes = Field(default=None, description="Set by Kubernetes.")
    generation: SetByKubernetes = Field(default=None, description="Set by Kubernetes.")
    creation_timestamp: SetByKubernetes = Field(default=None, description="Set by Kubernetes.")
    deletion_timestamp: SetByKubernetes = Field(default=None, description="Set by Kubernetes.")
    deletion_grace_period_seconds: SetByKubernetes = Field(default=None, description="Set by Kubernetes.")
    finalizers: SetByKubernetes = Field(default=None, description="Set by controllers.")
    owner_references: SetByKubernetes = Field(default=None, description="Set by controllers.")
    managed_fields: SetByKubernetes = Field(default=None, description="Set by Kubernetes.")
    self_link: SetByKubernetes = Field(default=None, description="Set by old releases of Kubernetes.")


class FileSet(Strict):
    """Files below some paths, narrowed by globs."""

    paths: list[Place] = Field(
        min_length=1, description="Files, folders, prefixes or globs. Relative ones start at the manifest's folder."
    )
    includes: list[Text] = Field(
        default_factory=list,
        description="Globs (`**/*.jpg`) of the files to take. Left out: all. A pattern with a slash starts at each "
        "path, of a bucket's files at the bucket.",
    )
    excludes: list[Text] = Field(default_factory=list, description="Globs of the files to leave out; they win.")


class Input(Strict):
    """The items of the job: exactly one of `items`, `files` and `delimitedFiles`."""

    exactly_one: ClassVar[tuple[str, ...]] = ("items", "files", "delimitedFiles")

    items: list[Any] | None = Field(
        default=None, description="The items themselves, any JSON values, at most 1 MiB in all."
    )
    files: FileSet | None = Field(default=None, description="Each file's path is an item.")
    delimited_files: FileSet | None = Field(
        default=None,
        description="Each JSON value of each file is an item (one a line, or concatenated), or each row of a CSV "
        "file with a header, as an object. Files may be compressed with gzip.",
    )
    batch_size: int = Field(default=1, ge=1, le=100_000, description="Items in a batch; the last one may have fewer.")

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterator[Flaw]:
        """Exactly one source; inline items within what the API server takes."""
        yield from super().rules(given)
        items = given.get("items")
        if not isinstance(items, list):
            return
        try:
            size = len(json.dumps(items, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        except (TypeError, ValueError, RecursionError) as error:
            yield Flaw(("items",), f"items that are not JSON ({error})", "JSON values")
            return
        if size > MAX_ITEMS_BYTES:
            yield Flaw(
                ("items",),
                f"{len(items)} items of {size:,} bytes as JSON",
                f"at most {MAX_ITEMS_BYTES:,} bytes (write the items to a file, one JSON value a line, and name it "
                "in spec.input.delimitedFiles.paths)",
            )

    @property
    def kind(self) -> Literal["items", "files", "delimitedFiles"]:
        """Which of the three is given."""
        if self.items is not None:
            return "items"
        return "files" if self.files is not None else "delimitedFiles"


class Output(Strict):
    """Where results go. Without it what `handle_batch` returns is ignored."""

    path: Place = Field(
        description="Folder or prefix of the results. A relative one starts at the manifest's folder."
    )
    format: Literal["jsonl"] = Field(default="jsonl", description="Format of the parts: one JSON object a line.")
    key: Text | None = Field(default=None, description="Field of each item that is copied beside its result.")


class Backoff(Strict):
    """How long a failed batch waits: `initial` after the first attempt, then doubled up to `max`, with jitter."""

    initial: Duration = Field(default=Duration("1s"), description="Wait after the first failed attempt.")
    max: Duration = Field(default=Duration("5m"), description="Longest wait; not below `initial`.")

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterator[Flaw]:
        """Yield a flaw when ``max`` is below ``initial``; a default counts like a given value."""
        initial, most = given.get("initial", "1s"), given.get("max", "5m")
        low, high = seconds_of(initial), seconds_of(most)
        if low is not None and high is not None and high < low:
            if "max" in given:
                yield Flaw(("max",), f"{most!r}, which is below initial ({initial})", f"at least {initial}")
            else:
                longer = f"at most {most}, or a longer max beside it"
                yield Flaw(("initial",), f"{initial!r}, which is above max ({most}, the default)", longer)


class Retry(Strict):
    """What happens to a batch whose attempt failed. Interruptions (a drain, a lost machine) are not attempts."""

    max_attempts: int = Field(default=3, ge=1, le=100, description="Attempts before a batch fails for good.")
    backoff: Backoff = Field(default_factory=Backoff, description="Waits between attempts.")


class ErrorThreshold(Strict):
    """How many failed batches are too many: exactly one of `batches` and `percent`. Left out: any number is fine."""

    exactly_one: ClassVar[tuple[str, ...]] = ("batches", "percent")

    batches: int | None = Field(default=None, ge=0, description="More batches than this failed: the job fails.")
    percent: float | None = Field(
        default=None, ge=0, le=100, description="More than this percentage of all batches failed: the job fails."
    )


class Spec(Strict):
    """What to run. Immutable after creation, but for `workers`, `suspend`, `ttlSecondsAfterFinished`, `timeout`."""

    handler: Handler = Field(description="The code that runs each batch.")
    input: Input = Field(description="The items, and how many make a batch.")
    workers: int = Field(
        default=1, ge=1, le=10_000, description="Workers: pods in a cluster, processes on one machine."
    )
    output: Output | None = Field(default=None, description="Where results go.")
    storage: Storage | None = Field(default=None, description="How `s3://` URLs are reached.")
    retry: Retry = Field(default_factory=Retry, description="Attempts and waits.")
    error_threshold: ErrorThreshold | None = Field(
        default=None, description="Failed batches at which the job fails fast; the rest stays queued, resumable."
    )
    batch_timeout: PositiveDuration | None = Field(
        default=None, description="Longest run of one batch; then its attempt has failed. Left out: no limit."
    )
    timeout: PositiveDuration | None = Field(
        default=None, description="Longest run of the job; then it fails with `DeadlineExceeded`. Left out: no limit."
    )
    suspend: bool = Field(default=False, description="Stop the workers and keep everything. Cluster only.")
    ttl_seconds_after_finished: int | None = Field(
        default=None, ge=0, description="Seconds after its end at which the job is deleted. Cluster only."
    )
    pod: Pod | None = Field(default=None, description="Additions to the pods. Cluster only.")


class BatchJob(Strict):
    """A batch job: one handler over many items."""

    api_version: Literal["batchyard.dev/v1alpha1"] = Field(description="Version of this format.")
    kind: Literal["BatchJob"] = Field(description="`BatchJob`.")
    metadata: Metadata = Field(description="Name and labels.")
    spec: Spec = Field(description="What to run.")
    status: Status | None = Field(default=None, description="How it goes. Written by the operator, never by a user.")
