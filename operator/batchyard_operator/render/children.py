"""All children of a job as they should be; the only door of this room that a turn uses."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from batchyard.api import names
from batchyard.api.spec import API_VERSION, KIND, BatchJob

from batchyard_operator.model import JOB_LABEL, UID_LABEL, JobSeen, Wanted
from batchyard_operator.render.jobs import enqueuer_spec, workers_spec
from batchyard_operator.render.podfile import podfile_text
from batchyard_operator.render.pods import PodFacts
from batchyard_operator.settings import OperatorSettings

Object = dict[str, Any]


def render(
    seen: JobSeen,
    settings: OperatorSettings,
    start_time: float,
    wanted: Wanted,
    credentials: Mapping[str, str],
) -> list[Object]:
    """Return the job's children, in the order in which they are applied; every dict is a fresh one.

    The Secret with the queue's ``credentials`` (variable to value; left out when there are none), the ConfigMap with
    ``job.json``, the workers' Job, and the enqueuer's when it is wanted. ``start_time``: unix seconds at which the
    job's queue was made, the same at every turn.

    Raises JobTooLarge when the manifest doesn't fit into a ConfigMap, ValueError for a job that isn't valid.
    """
    job = seen.job
    if job is None:
        raise ValueError(f"{seen.key.namespace}/{seen.key.name} is not valid and has no children")
    known = {variable: value for variable, value in credentials.items() if value}
    pods = PodFacts(
        job=seen.key.name, labels=_labels(seen), spec=job.spec, settings=settings, credentials=frozenset(known)
    )
    objects = [_secret(seen, known)] if known else []
    objects += [
        _config_map(seen, job, settings, start_time),
        _job(seen, names.workers_name(seen.key.name), "worker", workers_spec(pods, wanted)),
    ]
    if wanted.enqueuer:
        objects.append(_job(seen, names.enqueuer_name(seen.key.name), "enqueuer", enqueuer_spec(pods, wanted)))
    return objects


def _secret(seen: JobSeen, credentials: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(seen, names.queue_secret_name(seen.key.name)),
        "type": "Opaque",
        "data": {variable: b64encode(value.encode()).decode() for variable, value in sorted(credentials.items())},
    }


def _config_map(seen: JobSeen, job: BatchJob, settings: OperatorSettings, start_time: float) -> Object:
    text = podfile_text(seen.key, seen.uid, job.spec, settings, start_time)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(seen, names.podfile_name(seen.key.name)),
        "data": {"job.json": text},
    }


def _job(seen: JobSeen, name: str, component: str, spec: Object) -> Object:
    metadata = _metadata(seen, name)
    metadata["labels"]["app.kubernetes.io/component"] = component
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _metadata(seen: JobSeen, name: str) -> Object:
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": seen.key.name,
        "uid": seen.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": seen.key.namespace,
        "labels": _labels(seen),
        "ownerReferences": [owner],
    }


def _labels(seen: JobSeen) -> dict[str, str]:
    return {JOB_LABEL: seen.key.name, UID_LABEL: seen.uid, "app.kubernetes.io/name": "batchyard"}
