"""A user changes their mind: suspend and resume, more and fewer workers, delete in mid-run."""

from collections.abc import Callable

import pytest
from cluster_harness import until
from job_space import Space, settled

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SLOW = """\
import time
class Handler:
    def __init__(self, config):
        self.seconds = config["seconds"]
    def handle_batch(self, payload):
        time.sleep(self.seconds)
"""


def submit(space: Space, name: str, batches: int, seconds: float, workers: int = 1) -> None:
    space.submit(
        name, SLOW, handler={"config": {"seconds": seconds}}, input={"items": list(range(batches))}, workers=workers
    )


def test_a_suspended_job_stops_and_a_resumed_one_goes_on_where_it_was(space: Space) -> None:
    submit(space, "pausing", 120, 0.2, workers=2)
    space.settled("pausing", 5)
    space.kubectl("patch", "batchjob", "pausing", "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    space.wait("pausing", lambda status: status.get("state") == "Suspended", "Suspended")
    until(lambda: not space.pods("pausing"), "no pod is left")
    status = space.wait("pausing", lambda status: status["batches"]["running"] == 0, "nothing running")
    before = settled(status)
    assert 5 <= before < 120, status
    space.kubectl("patch", "batchjob", "pausing", "--type=merge", "--patch", '{"spec": {"suspend": false}}')
    status = space.settled("pausing", before + 1)
    assert status["state"] in ("Running", "Completing", "Succeeded")
    status = space.ended("pausing")
    assert status["batches"] == {"total": 120, "succeeded": 120, "failed": 0, "running": 0, "pending": 0}


def test_a_running_job_is_scaled_up_and_down(space: Space) -> None:
    submit(space, "scaling", 200, 0.2)
    space.settled("scaling", 1)
    space.kubectl("scale", "batchjob", "scaling", "--replicas=3")
    status = space.wait("scaling", lambda status: status["workers"].get("ready") == 3, "3 workers ready")
    assert status["workers"]["desired"] == 3
    space.kubectl("scale", "batchjob", "scaling", "--replicas=1")
    until(lambda: len(space.pods("scaling")) == 1, "one pod is left")
    status = space.ended("scaling")
    assert status["state"] == "Succeeded", status
    assert status["batches"] == {"total": 200, "succeeded": 200, "failed": 0, "running": 0, "pending": 0}


def test_a_job_deleted_in_the_middle_leaves_nothing(space: Space, streams: Callable[[], dict[str, int]]) -> None:
    submit(space, "leaving", 1000, 0.5, workers=2)
    space.settled("leaving", 2)
    job = space.job("leaving")
    assert job
    uid = job["metadata"]["uid"]
    assert job["metadata"]["finalizers"]
    assert [name for name in streams() if uid in name]
    space.kubectl("delete", "batchjob", "leaving", "--timeout=150s")
    assert space.job("leaving") is None
    assert not [name for name in streams() if uid in name]
    assert not space.pods("leaving")
    everything = ("get", "jobs,pods,configmaps,secrets", "-l", "batchyard.dev/job=leaving", "--output=name")
    until(lambda: not space.kubectl(*everything), "nothing of the job is left")
