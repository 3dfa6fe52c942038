"""What a container of a pod is told: the operator's file and its own environment, parsed once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from batchyard.api import in_cluster
from batchyard.api.errors import BatchyardError, InvalidError
from batchyard.api.podfile import POD_INDEX, POD_NAME, PodFile
from batchyard.api.spec import BatchJob
from batchyard.api.storage import storage_settings
from batchyard.pod.places import Places
from batchyard.storage.door import store_options
from batchyard.storage.port import StoreOptions


class NotTold(BatchyardError):
    """The operator's file is not there, or this image does not understand it."""


class NotForPods(InvalidError):
    """The manifest names what pods don't have, such as a path of its writer's machine."""

    reason = "ManifestInvalid"


@dataclass(frozen=True, slots=True)
class Told:
    """A job as one container sees it. ``index``: the worker's number, None for the enqueuer. ``pod``: its name."""

    file: PodFile
    job: BatchJob
    places: Places
    pod: str
    index: int | None

    @property
    def home(self) -> str:
        """Return what an output folder remembers this job by: made again under its name, it is the same one."""
        return f"{self.job.metadata.namespace or 'default'}/{self.job.metadata.name}"

    @property
    def store(self) -> StoreOptions:
        """Return how the job reaches its object store."""
        return store_options(storage_settings(self.job.spec.storage, self.file.work))

    def is_shared(self, path: Path) -> bool:
        """Return whether every container of the pod has ``path``.

        It lies on the shared volume, or on one of the job's. Links are followed: what they lead to must be there too.
        """
        pod = self.job.spec.pod
        mounts = [Path(str(mount.get("mountPath", ""))) for mount in (pod.volume_mounts if pod else [])]
        found = path.resolve()
        return any(
            mount.is_absolute() and found.is_relative_to(mount.resolve()) for mount in (self.places.mnt, *mounts)
        )


def read(places: Places, environment: Mapping[str, str] = os.environ) -> Told:
    """Return what this container is told. Raises NotTold."""
    path = places.job_file
    try:
        file = PodFile.model_validate_json(path.read_bytes())
        job = BatchJob.model_validate(file.job)
    except OSError as error:
        raise NotTold(f"{path} cannot be read ({error.strerror}): the operator mounts it into each pod.") from error
    except ValidationError as error:
        raise NotTold(
            f"{path} is not understood by this image's batchyard, which should be as new as the operator's: {error}"
        ) from error
    index = environment.get(POD_INDEX, "")
    return Told(
        file=file,
        job=job,
        places=places,
        pod=environment.get(POD_NAME) or os.uname().nodename,
        index=int(index) if index.isdigit() else None,
    )


def refuse_what_pods_lack(job: BatchJob) -> None:
    """Raise NotForPods with each thing that a cluster can't do for this job; the operator says the same, earlier."""
    problems = in_cluster.problems(job)
    if problems:
        raise NotForPods("\n".join(problems))
