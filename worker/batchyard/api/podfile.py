"""The file that each pod of a job reads at start, and where things lie in a pod.

Apart, and down here, because the operator writes it and ``batchyard.pod`` reads it, and neither imports the other.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

PODFILE = "/etc/batchyard/job.json"
"""Where the job's ConfigMap is mounted in each container of ours."""

PROJECT_SOURCE = "/etc/batchyard/project"
"""Where ``handler.project.configMap`` is mounted in the fetch container."""

MNT = "/mnt"
"""The volume that all containers of a pod share. Users may make folders of their own there."""

OURS = f"{MNT}/.batchyard"
WORKER_SETTINGS = f"{OURS}/worker.json"
MODELS_CONFIG = f"{OURS}/models.config"
SERVING_SOCKET = f"{OURS}/serving.sock"
MODELS = f"{MNT}/models"
PROJECT = f"{MNT}/project"
DEPENDENCIES = f"{MNT}/dependencies"

SERVING_PORT = 8500
SERVING_REST_PORT = 8501

POD_NAME = "BATCHYARD_POD"
"""Variable that holds the pod's name."""

POD_INDEX = "JOB_COMPLETION_INDEX"
"""Variable that Kubernetes gives each pod of an Indexed Job: the worker's number, from 0."""


class PodFile(BaseModel):
    """What every pod of a job is told.

    ``job``: the BatchJob, as in the manifest, without ``status``. ``job_id``: its uid. ``queue``: its URL.
    ``start_time`` in unix seconds. ``work``: prefix for batches over the queue's message limit, "" for none.
    ``drain``: seconds that running batches get after SIGTERM. ``lease``: that of the queue, seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: dict[str, Any]
    job_id: str
    queue: str
    start_time: float
    work: str = ""
    drain: float = 55.0
    lease: float = 30.0
