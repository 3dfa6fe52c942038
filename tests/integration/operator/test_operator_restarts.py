"""An operator that is killed and started again finds everything as it left it, and writes nothing twice."""

import time
from collections.abc import Callable

import pytest
from operator_harness import FILES, Operator, Space, wait_for


def turned(space: Space, name: str) -> None:
    """Wait until the operator has made a new job's workers, which means that it has looked at all the others."""
    space.create(name).wait_for_workers()


def test_a_restart_writes_nothing_that_stands_already(operator: Operator, space: Space):
    jobs = [space.create(f"job-{i}", input=FILES, workers=i + 1) for i in range(5)]
    for job in jobs:
        job.wait_for_workers()
        wait_for("the enqueuer", lambda job=job: len(job.children()) == 4)
    queue = jobs[0].queue()
    queue.publish(0, [b"x"] * 3)
    jobs[0].wait("three batches", lambda status: status.get("batches", {}).get("pending") == 3)
    done = jobs[1].queue()
    done.seal(0, 0)
    token = done.receive_completion(5)
    assert token is not None
    done.ack([token])
    jobs[1].wait("the end", lambda status: status.get("completionTime"))
    time.sleep(2)  # what is still under way
    before = [job.versions() for job in jobs]
    events = len(space.all("events"))
    for number in range(2):
        operator.kill()
        operator.start()
        turned(space, f"after-{number}")
        time.sleep(2)
    assert [job.versions() for job in jobs] == before
    assert len(space.all("events")) == events
    queue.close()
    done.close()


def test_sigterm_ends_it_cleanly_and_the_next_one_goes_on(operator: Operator, space: Space):
    job = space.create()
    job.wait_for_workers()
    assert operator.stop() == 0
    queue = job.queue()
    queue.publish(0, [b"x"] * 4)
    queue.seal(4, 4)
    while found := queue.receive(10, 5, 0):
        queue.ack(found)
    token = queue.receive_completion(5)
    assert token is not None
    queue.ack([token])  # a job ends without an operator
    queue.close()
    operator.start()
    status = job.wait_for_state("Succeeded")
    assert status["batches"] == {"total": 4, "succeeded": 4, "failed": 0, "running": 0, "pending": 0}


def test_jobs_deleted_and_changed_while_it_was_down_are_caught_up_with(operator: Operator, space: Space):
    gone, changed, new = space.create("gone"), space.create("changed"), None
    for job in (gone, changed):
        job.wait_for_workers()
    operator.kill()
    space.delete("batchjobs", "gone")
    changed.spec(workers=7)
    new = space.create("new")
    operator.start()
    new.wait_for_workers()
    wait_for("seven workers", lambda: (changed.workers() or {"spec": {}})["spec"].get("parallelism") == 7)
    gone.collect_children()
    wait_for("the end of the deleted one", lambda: space.get("batchjobs", "gone") is None)


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_job_is_made_once_whenever_the_operator_is_killed(operator: Operator, space: Space, moment: float):
    turned(space, "first")
    job = space.create(input=FILES, workers=2)
    time.sleep(moment)
    operator.kill()
    made = {name: child["metadata"]["uid"] for name, child in job.children().items()}
    started = job.status.get("startTime")
    operator.start()
    wait_for("all children", lambda: len(job.children()) == 4)
    job.wait("a start", lambda status: status.get("startTime"))
    found = {name: child["metadata"]["uid"] for name, child in job.children().items()}
    assert found | made == found
    assert started in (None, job.status["startTime"])
    queue = job.queue()
    assert queue.state().counts.published == 0
    queue.close()


def test_two_restarts_in_the_middle_of_a_deletion_end_it_all_the_same(operator: Operator, space: Space):
    job = space.create(input=FILES)
    wait_for("all children", lambda: len(job.children()) == 4)
    space.delete("batchjobs", job.name)
    operator.kill()
    operator.start()
    job.collect_children()
    operator.kill()
    operator.start()
    wait_for("the job's end", lambda: space.get("batchjobs", job.name) is None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"turns": 0}, "turns: ", id="out of range"),
        pytest.param({"tunrs": 4}, "tunrs: ", id="unknown"),
        pytest.param({"queue": {"url": "http://nats"}}, "expected nats://host:port", id="a queue that is none"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(
    operators: Callable[..., Operator], settings: dict[str, object], said: str
):
    operator = operators(**settings)
    assert operator.process is not None
    assert operator.process.wait(30) == 1
    log = operator.log
    operator.log_file.unlink()
    assert said in log
    assert "Traceback" not in log
