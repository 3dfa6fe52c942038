"""Derived names: everything that must be the same on every attempt and after every restart is made here."""

import uuid

_BATCHES = uuid.UUID("6f5b1d2e-0f0c-5b43-9d5e-2f6d8f4d7a10")  # namespace of batch ids; never change it


def batch_id(job_id: str, index: int) -> str:
    """Return the id of batch ``index`` (from 0) of a job: a uuid, the same on every attempt."""
    return str(uuid.uuid5(_BATCHES, f"{job_id}/{index}"))


def part_name(index: int) -> str:
    """Return the path of a batch's result part below the output folder.

    A thousand parts a folder, so that a job of 10^6 batches lists well: ``parts/000012/part-000012345.jsonl``.
    """
    return f"parts/{index // 1000:06d}/part-{index:09d}.jsonl"


def queue_name(job_id: str) -> str:
    """Return the name of a job's queue in the cluster; a job that is made again has another id, and another queue."""
    return f"bj-{job_id}"


def workers_name(job: str) -> str:
    """Return the name of the Job of a job's workers."""
    return f"{job}-workers"


def enqueuer_name(job: str) -> str:
    """Return the name of the Job of a job's enqueuer."""
    return f"{job}-enqueuer"


def podfile_name(job: str) -> str:
    """Return the name of the ConfigMap that holds a job's ``job.json``."""
    return f"{job}-job"


def queue_secret_name(job: str) -> str:
    """Return the name of the Secret with which a job's pods reach the queue."""
    return f"{job}-queue"
