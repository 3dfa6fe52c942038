"""The batches of a job, published from a pod: the output is made ready first, while no result of this job can exist.

Apart because two containers do it: the enqueuer's for files, the first worker's fetch for items in the manifest.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from batchyard.enqueue.planned import enqueue_settings
from batchyard.enqueue.publish import Outcome, enqueue
from batchyard.output.begin import begin_output
from batchyard.output.owner import Owner
from batchyard.output.parts import Parts
from batchyard.pod.patience import patiently
from batchyard.pod.told import Told
from batchyard.queue.port import Queue


def publish(told: Told, queue: Queue, say: Callable[[str, str], None]) -> Outcome:
    """Publish what is not in the queue yet, and seal it. Raises InvalidError, QueueLost."""
    position = patiently(queue.position, say)
    if position.sealed:
        return Outcome.SEALED
    if not position.published:  # from the first batch on there may be results of this job, and nobody clears them
        patiently(lambda: _begin_output(told), say)
    file = told.file
    settings = enqueue_settings(told.job.spec, queue=file.queue, job_id=file.job_id, folder=Path("/"), work=file.work)
    return enqueue(queue, settings, threading.Event(), say)


def _begin_output(told: Told) -> None:
    output = told.job.spec.output
    if output is None:
        return
    owner = Owner(job=told.job.metadata.name, jobId=told.file.job_id, home=told.home, path=output.path)
    begin_output(Parts(output.path, told.store), owner, None, fresh=True)
