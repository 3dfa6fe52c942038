"""One job's life under a real operator: what is made for it, what its status says, and how it ends."""

import socket
import urllib.request
from collections.abc import Callable

import pytest
from batchyard.queue.jetstream import JetStreamQueue
from batchyard.queue.port import Failure, QueueLost
from operator_harness import FILES, FINALIZER, Job, Operator, Space, wait_for


def publish(queue: JetStreamQueue, batches: int, items: int | None = None) -> None:
    queue.publish(0, [b"x"] * batches)
    queue.seal(batches, items or batches)


def finish(queue: JetStreamQueue) -> None:
    """Play the workers: run every batch, then what comes last."""
    while found := queue.receive(100, 5, 0):
        queue.ack(found)
    token = queue.receive_completion(5)
    assert token is not None
    assert queue.ack([token]) == [True]


def counts(job: Job) -> dict[str, int]:
    return dict(job.status.get("batches", {}))


def test_a_new_job_gets_a_finalizer_a_status_a_queue_and_its_children(operator: Operator, space: Space):
    job = space.create(input=FILES, workers=3)
    job.wait_for_workers()
    wait_for("the enqueuer", lambda: "jobs/enqueuer" in job.children())
    assert job.object["metadata"]["finalizers"] == [FINALIZER]
    assert job.status["state"] == "Pending"
    assert job.status["startTime"]
    queue = job.queue()
    assert queue.state().counts.published == 0
    queue.close()
    children = job.children()
    assert set(children) == {"jobs/workers", "jobs/enqueuer", "configmaps/job", "secrets/queue"}
    for child in children.values():
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (job.uid, True, True)
        assert child["metadata"]["labels"]["batchyard.dev/job-uid"] == job.uid
    assert children["jobs/workers"]["spec"]["parallelism"] == 3


def test_inline_items_need_no_enqueuer(operator: Operator, space: Space):
    job = space.create()
    job.wait_for_workers()
    job.wait("a start", lambda status: status.get("startTime"))
    assert "jobs/enqueuer" not in job.children()


def test_the_status_counts_what_the_queue_holds_and_says_succeeded_once_the_token_is_settled(
    operator: Operator, space: Space
):
    job = space.create()
    job.wait_for_workers()
    queue = job.queue()
    publish(queue, 10, 25)
    job.wait("all batches queued", lambda status: status.get("batches", {}).get("total") == 10)
    held = queue.receive(4, 5, 0)
    assert all(queue.ack(held[:3]))
    job.wait("three of ten", lambda status: status["batches"]["succeeded"] == 3)
    assert job.status["progress"] == "3/10"
    queue.release(held[3:])
    finish(queue)
    queue.close()
    status = job.wait_for_state("Succeeded")
    assert counts(job) == {"total": 10, "succeeded": 10, "failed": 0, "running": 0, "pending": 0}
    assert status["completionTime"]
    assert job.condition("Complete")["status"] == "True"
    assert len(space.events("AllBatchesSucceeded")) == 1


def test_failed_batches_are_counted_and_the_newest_are_shown(operator: Operator, space: Space):
    job = space.create()
    job.wait_for_workers()
    queue = job.queue()
    publish(queue, 3)
    (first,) = queue.receive(1, 5, 0)
    queue.bury(first, Failure("HandlerError", "ValueError: no such digit", time=1_750_000_000.0))
    job.wait("the failure", lambda status: status.get("failures"))
    finish(queue)
    queue.close()
    status = job.wait_for_state("CompletedWithFailures")
    (failure,) = status["failures"]
    assert (failure["batch"], failure["attempts"]) == (0, 1)
    assert failure["error"] == "ValueError: no such digit"
    assert counts(job)["failed"] == 1


@pytest.mark.parametrize("reason", ["HandlerInvalid", "InputInvalid"])
def test_a_job_whose_worker_halted_the_queue_has_failed_with_that_reason(
    operator: Operator, space: Space, reason: str
):
    job = space.create()
    job.wait_for_workers()
    queue = job.queue()
    queue.halt(reason, "h.py, line 1: no class Handler")
    queue.close()
    status = job.wait_for_state("Failed")
    assert status["reason"] == reason
    assert "no class Handler" in status["message"]


def test_suspend_and_scale_change_the_jobs_in_place(operator: Operator, space: Space):
    job = space.create(workers=2, input=FILES)
    uid = job.wait_for_workers()["metadata"]["uid"]

    def stands(**expected: object) -> Callable[[], bool]:
        def look() -> bool:
            child = job.workers()
            assert child is not None
            assert child["metadata"]["uid"] == uid
            return {name: child["spec"].get(name) for name in expected} == expected

        return look

    job.spec(workers=5)
    wait_for("five workers", stands(parallelism=5, completions=5))
    job.spec(workers=1)
    wait_for("one worker", stands(parallelism=1, completions=1))
    job.spec(suspend=True)
    wait_for("the suspension", stands(suspend=True))
    job.wait_for_state("Suspended")
    enqueuer = space.get("jobs", "digits-enqueuer")
    assert enqueuer is not None
    assert enqueuer["spec"]["suspend"] is True
    job.spec(suspend=False)
    wait_for("the resumption", stands(suspend=False))
    job.wait("going on", lambda status: status["state"] != "Suspended")


def test_a_deleted_job_gives_back_its_children_then_its_queue_then_its_name(operator: Operator, space: Space):
    job = space.create(input=FILES)
    job.wait_for_workers()
    wait_for("the enqueuer", lambda: "jobs/enqueuer" in job.children())
    queue = job.queue()
    space.delete("batchjobs", job.name)
    job.collect_children()
    wait_for("the job's end", lambda: space.get("batchjobs", job.name) is None)
    with pytest.raises(QueueLost):
        queue.state()
    queue.close()


def test_a_job_is_held_while_a_pod_of_its_stands(operator: Operator, space: Space):
    job = space.create()
    job.wait_for_workers()
    job.make_pod("digits-workers-0-abc")
    space.delete("batchjobs", job.name)
    wait_for("the deletion", lambda: "deletionTimestamp" in (job.workers() or {"metadata": {}})["metadata"])
    queue = job.queue()
    assert queue.state().halt is None
    queue.close()
    assert job.object["metadata"]["finalizers"] == [FINALIZER]
    job.collect_children()
    wait_for("the job's end", lambda: space.get("batchjobs", job.name) is None)


def test_pods_whose_job_was_deleted_behind_its_back_are_let_go(operator: Operator, space: Space):
    job = space.create()
    job.wait_for_workers()
    pod = job.make_pod("digits-workers-0-abc")
    tracking = {"metadata": {"finalizers": ["batch.kubernetes.io/job-tracking"]}}
    space.patch("pods", pod["metadata"]["name"], tracking)
    space.delete("jobs", "digits-workers", propagationPolicy="Background", gracePeriodSeconds=0)
    space.delete("batchjobs", job.name)
    if job.workers() is not None:
        job.space.patch("jobs", "digits-workers", {"metadata": {"finalizers": None}})

    def gone() -> bool:
        left = space.get("pods", pod["metadata"]["name"])
        if left is not None and "deletionTimestamp" in left["metadata"] and not left["metadata"].get("finalizers"):
            space.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)  # the kubelet
        return space.get("batchjobs", job.name) is None

    wait_for("the job's end", gone)
    assert space.all("pods") == []


def test_a_job_that_was_made_again_under_its_name_has_a_queue_and_children_of_its_own(
    operator: Operator, space: Space
):
    first = space.create()
    old = first.wait_for_workers()["metadata"]["uid"]
    space.delete("batchjobs", first.name)
    first.collect_children()
    wait_for("the first one's end", lambda: space.get("batchjobs", first.name) is None)
    second = space.create()
    second.wait("a start", lambda status: status.get("startTime"))
    for kind, name in (("configmaps", "digits-job"), ("secrets", "digits-queue")):
        space.delete(kind, name)  # the garbage collector, which is late
    child = second.wait_for_workers()
    assert child["metadata"]["uid"] != old
    children = second.children()
    assert set(children) == {"jobs/workers", "configmaps/job", "secrets/queue"}
    assert {each["metadata"]["labels"]["batchyard.dev/job-uid"] for each in children.values()} == {second.uid}


def test_an_ended_job_is_deleted_when_its_time_is_over(operator: Operator, space: Space):
    job = space.create(ttlSecondsAfterFinished=1)
    job.wait_for_workers()
    queue = job.queue()
    publish(queue, 1)
    finish(queue)
    queue.close()
    job.collect_children()
    wait_for("the job's end", lambda: space.get("batchjobs", job.name) is None)


def test_pods_that_are_ready_are_counted(operator: Operator, space: Space):
    job = space.create(workers=2)
    job.wait_for_workers()
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    job.make_pod("digits-workers-0-abc", status=ready)
    job.make_pod("digits-workers-1-abc", status={"phase": "Pending"})
    job.wait("one ready worker", lambda status: status["workers"] == {"desired": 2, "ready": 1})
    space.delete("pods", "digits-workers-0-abc", gracePeriodSeconds=0)
    job.wait("no ready worker", lambda status: status["workers"]["ready"] == 0)


def test_a_job_whose_streams_were_deleted_has_lost_its_queue(operator: Operator, space: Space):
    job = space.create()
    job.wait_for_workers()
    JetStreamQueue.delete(job.url)
    status = job.wait_for_state("Failed")
    assert status["reason"] == "QueueLost"


def test_a_manifest_that_the_api_server_could_not_refuse_is_refused_and_nothing_is_made(
    operator: Operator, space: Space
):
    handler = {"type": "python", "path": "h.py", "project": {"inline": {"h.py": "x"}}}
    relative = space.create(handler={**handler, "type": "tensorflow", "models": {"path": "models/digits"}})
    status = relative.wait_for_state("Failed")
    assert status["reason"] == "ManifestInvalid"
    assert "spec.handler.models.path" in status["message"]
    numbers = space.create("numbers", handler={**handler, "dependencies": {"pip": [1, 2]}})
    assert numbers.wait_for_state("Failed")["reason"] == "ManifestInvalid"
    for job in (relative, numbers):
        assert job.children() == {}


def test_an_object_of_somebody_else_is_never_taken_over(operator: Operator, space: Space):
    theirs = space.post("configmaps", {"metadata": {"name": "digits-job"}, "data": {"mine": "1"}})
    job = space.create()
    status = job.wait("the refusal", lambda status: status.get("reason") == "ObjectsRefused")
    assert "digits-job" in status["message"]
    assert space.get("configmaps", "digits-job") == theirs
    assert job.workers() is None


def test_a_job_of_somebody_else_is_never_taken_over(operator: Operator, space: Space):
    pod = {"spec": {"containers": [{"name": "c", "image": "none"}], "restartPolicy": "Never"}}
    theirs = space.post("jobs", {"metadata": {"name": "digits-workers"}, "spec": {"template": pod}})
    job = space.create()
    status = job.wait("the refusal", lambda status: status.get("reason") == "ObjectsRefused")
    assert "digits-workers" in status["message"]
    found = job.workers()
    assert found is not None
    assert found["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert "batchyard.dev/job" not in found["metadata"].get("labels", {})


def test_why_pods_are_missing_is_read_from_the_events_of_the_job(operator: Operator, space: Space):
    job = space.create()
    child = job.wait_for_workers()
    event = {
        "metadata": {"name": "why"},
        "involvedObject": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": child["metadata"]["name"],
            "namespace": space.name,
            "uid": child["metadata"]["uid"],
        },
        "reason": "FailedCreate",
        "message": "Error creating: pods are forbidden: exceeded quota",
        "type": "Warning",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    space.post("events", event)
    status = job.wait("the stall", lambda status: status.get("reason") == "PodsRefused")
    assert "exceeded quota" in status["message"]


def test_a_child_that_was_deleted_by_hand_is_made_again(operator: Operator, space: Space):
    job = space.create(workers=2)
    first = job.wait_for_workers()["metadata"]["uid"]
    space.delete("jobs", "digits-workers", propagationPolicy="Background", gracePeriodSeconds=0)
    job.spec(workers=3)

    def again() -> bool:
        child = job.workers()
        return child is not None and child["metadata"]["uid"] != first and child["spec"]["parallelism"] == 3

    wait_for("other workers", again)


def test_what_pods_mount_and_somebody_deleted_is_made_again(operator: Operator, space: Space):
    job = space.create()
    job.wait_for_workers()
    space.delete("configmaps", "digits-job")
    pod = job.make_pod("digits-workers-0-abc")  # pending, with a node, and no container has begun
    event = {
        "metadata": {"name": "mount"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": space.name, "uid": pod["metadata"]["uid"]},
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed: configmap "digits-job" not found',
        "type": "Warning",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    space.post("events", event)
    wait_for("the ConfigMap", lambda: space.get("configmaps", "digits-job"))


def test_a_secret_that_somebody_deleted_is_made_again(operator: Operator, space: Space):
    job = space.create()
    job.wait_for_workers()
    space.delete("secrets", "digits-queue")
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "digits-queue" not found'}
    container = {"name": "fetch", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Pending", "initContainerStatuses": [{**container, "state": {"waiting": waiting}}]}
    job.make_pod("digits-workers-0-abc", status=status)
    wait_for("the Secret", lambda: space.get("secrets", "digits-queue"))


def test_the_liveness_endpoint_answers_while_all_is_well(operators: Callable[..., Operator], space: Space):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    operators(namespaces=[space.name], liveness_port=port)
    space.create().wait_for_workers()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        assert answer.status == 200


def test_an_operator_of_one_namespace_leaves_the_others_alone(
    operators: Callable[..., Operator], spaces: Callable[[], Space]
):
    ours, theirs = spaces(), spaces()
    operators(namespaces=[ours.name])
    other = theirs.create()
    before = other.object
    ours.create().wait_for_workers()
    last = ours.create("last")
    last.wait_for_workers()
    assert other.object == before
    assert other.children() == {}
