"""How a job reaches its object store: a part of the BatchJob, and the same as each process is told it.

Apart from the other models because the enqueuer, the workers and the pods share it.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from batchyard.api.scalars import Place, Words
from batchyard.api.strict import Flaw, Strict

Endpoint = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$"),
    Words("a URL such as http://minio:9000", "http(s):// URL"),
]
Region = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$", max_length=63),
    Words("a region's name, such as eu-west-1"),
]


class Storage(Strict):
    """How `s3://` URLs of the job are reached. What is left out comes from the standard AWS configuration.

    Credentials never stand here: they come from the environment (`handler.envFrom` with a Secret), a profile, or the
    role of the pods' service account (`pod.serviceAccountName`).
    """

    endpoint: Endpoint | None = Field(
        default=None,
        description="URL of a store that is not AWS (MinIO, SeaweedFS, Ceph, …). Left out: `AWS_ENDPOINT_URL`, "
        "else AWS.",
    )
    region: Region | None = Field(
        default=None,
        description="Region of the buckets. Left out: `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile.",
    )
    path_style: bool | None = Field(
        default=None,
        description="Whether a bucket's name stands in the path of a request, not in its host name. Left out: it "
        "does at every endpoint of one's own.",
    )
    requester_pays: bool = Field(
        default=False, description="Whether you pay for requests to buckets that are set up as requester pays."
    )
    work: Place | None = Field(
        default=None,
        description="Folder or prefix for batches larger than the queue's message limit; each is deleted once its "
        "batch is settled. Left out: the operator's own setting; without one such a batch is refused.",
    )

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterator[Flaw]:
        """No secret in the endpoint; what was found is not repeated."""
        endpoint = given.get("endpoint")
        if isinstance(endpoint, str) and "@" in endpoint:
            yield Flaw(
                ("endpoint",), "a URL with a user or a password in it", "one without: credentials never stand here"
            )


class StorageSettings(BaseModel):
    """How a process reaches the job's object store; what is None is left to the standard AWS configuration.

    ``work`` is where batches over the queue's message limit go, "" for nowhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    requester_pays: bool = False
    work: str = ""


def storage_settings(storage: Storage | None, work: str = "") -> StorageSettings:
    """Return what a job's processes are told; ``work`` stands where the job itself names no such prefix."""
    if storage is None:
        return StorageSettings(work=work)
    return StorageSettings(**{**storage.model_dump(), "work": storage.work or work})
