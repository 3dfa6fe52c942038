"""The operator's watch caches: what an event changes, what wakes a job, what a late answer must not bring back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from batchyard_operator.act.errors import Unavailable
from batchyard_operator.model import Key
from batchyard_operator.observe.caches import OURS, Caches, Change
from batchyard_operator.observe.sweep import Sweep

KEY = Key("default", "digits")


class World:
    """Caches, and what they told."""

    def __init__(self) -> None:
        self.told: list[tuple[Key, Change]] = []
        self.caches = Caches(lambda key, change: self.told.append((key, change)))

    def news(self) -> list[str]:
        told, self.told = self.told, []
        assert all(key == KEY for key, _ in told)
        return [change.value for _, change in told]


@pytest.fixture
def world() -> World:
    return World()


def job(version: int = 1, *, uid: str = "u1", generation: int = 1, status: Any = None, **metadata: Any) -> Any:
    return {
        "apiVersion": "batchyard.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {
            "name": "digits",
            "namespace": "default",
            "uid": uid,
            "generation": generation,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **metadata,
        },
        "spec": {"handler": {"type": "tensorflow", "models": {"path": "s3://b/m"}}, "input": {"items": [1]}},
        **({"status": status} if status else {}),
    }


def child(version: int = 1, *, uid: str = "c1", owner: str = "u1", name: str = "digits-workers", **spec: Any) -> Any:
    labels = {"batchyard.dev/job": "digits", "batchyard.dev/job-uid": owner}
    metadata = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata, "spec": {"parallelism": 1, "completions": 1, **spec}}


def pod(version: int = 1, *, uid: str = "p1", owner: str = "u1", of: str = "c1", phase: str = "Pending") -> Any:
    labels = {
        "batchyard.dev/job": "digits",
        "batchyard.dev/job-uid": owner,
        "app.kubernetes.io/component": "worker",
    }
    metadata = {
        "name": "digits-workers-0-abc",
        "namespace": "default",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": labels,
        "ownerReferences": [{"uid": of, "controller": True}],
    }
    return {"metadata": metadata, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(job(2), [], id="another version of the same"),
        pytest.param(job(2, generation=2), ["urgent"], id="another spec"),
        pytest.param(job(2, deletionTimestamp="2026-01-01T00:00:01Z"), ["urgent"], id="being deleted"),
        pytest.param(job(2, uid="u2"), ["urgent"], id="another job of that name"),
        pytest.param(job(2, status={"state": "Running"}), ["some"], id="a status that is not ours"),
        pytest.param(job(2, finalizers=["batchyard.dev/queue"]), ["some"], id="our finalizer"),
        pytest.param(job(2, labels={"team": "a"}), [], id="a label"),
        pytest.param(job(1, generation=2), [], id="the same version again"),
    ],
)
def test_an_event_of_a_job_means(world: World, event: Any, expected: list[str]):
    world.caches.see_job("ADDED", job(1))
    assert world.news() == ["urgent"]
    world.caches.see_job("MODIFIED", event)
    assert world.news() == expected


def test_a_manifest_is_parsed_once_for_each_generation(world: World):
    world.caches.see_job("ADDED", job(1))
    first = world.caches.jobs[KEY].seen.job
    world.caches.see_job("MODIFIED", job(2, labels={"team": "a"}))
    assert world.caches.jobs[KEY].seen.job is first
    world.caches.see_job("MODIFIED", job(3, generation=2))
    assert world.caches.jobs[KEY].seen.job is not first


def test_a_manifest_that_is_wrong_is_seen_with_its_problems(world: World):
    wrong = job(1)
    wrong["spec"]["handler"]["models"] = {"path": "gs://b/m"}
    world.caches.see_job("ADDED", wrong)
    seen = world.caches.jobs[KEY].seen
    assert seen.job is None
    assert "spec.handler.models.path: found 'gs://b/m'" in seen.problems[0]


def test_an_answer_to_our_own_write_is_kept_and_no_news_and_its_event_neither(world: World):
    world.caches.see_job("ADDED", job(1))
    world.news()
    world.caches.see_job(OURS, job(5, status={"state": "Pending"}))
    world.caches.see_job("MODIFIED", job(5, status={"state": "Pending"}))
    assert world.news() == []
    assert world.caches.jobs[KEY].seen.status == {"state": "Pending"}


def test_an_older_event_does_not_take_back_a_newer_answer(world: World):
    world.caches.see_job("ADDED", job(1))
    world.caches.see_job(OURS, job(5, status={"state": "Running"}))
    world.caches.see_job("MODIFIED", job(3, status={"state": "Pending"}))
    assert world.caches.jobs[KEY].seen.status == {"state": "Running"}


@pytest.mark.parametrize("kind", ["job", "child", "pod"])
def test_an_answer_that_comes_after_the_deletion_brings_nothing_back(world: World, kind: str):
    see, raw = getattr(world.caches, f"see_{kind}"), {"job": job, "child": child, "pod": pod}[kind]
    see("ADDED", raw(1))
    see("DELETED", raw(2))
    world.news()
    see(OURS, raw(3))
    assert world.news() == []
    assert list(world.caches.everything()) == []


def test_the_deletion_of_an_earlier_job_leaves_the_later_one_of_that_name(world: World):
    world.caches.see_job("ADDED", job(5, uid="u2"))
    world.caches.see_job("DELETED", job(6, uid="u1"))
    assert world.caches.jobs[KEY].seen.uid == "u2"


def test_children_and_pods_belong_to_the_job_whose_uid_they_carry(world: World):
    world.caches.see_job("ADDED", job(1))
    seen = world.caches.jobs[KEY].seen
    world.caches.see_child("ADDED", child(1, owner="u0"))
    world.caches.see_pod("ADDED", pod(1, owner="u0"))
    assert world.caches.child_of(seen, "digits-workers") is None
    assert world.caches.pods_of(seen) == []
    world.caches.see_child("ADDED", child(2, uid="c2"))
    world.caches.see_pod("ADDED", pod(2, uid="p2", of="c2"))
    found = world.caches.child_of(seen, "digits-workers")
    assert found is not None
    assert found.seen.uid == "c2"
    assert [each.uid for each in world.caches.pods_of(seen)] == ["p2"]


def test_a_pod_whose_job_is_gone_is_an_orphan(world: World):
    world.caches.see_job("ADDED", job(1))
    seen = world.caches.jobs[KEY].seen
    world.caches.see_child("ADDED", child(1))
    world.caches.see_pod("ADDED", pod(1))
    assert world.caches.orphans_of(seen) == []
    world.caches.see_child("DELETED", child(2))
    assert [each.uid for each in world.caches.orphans_of(seen)] == ["p1"]


def test_only_what_a_turn_looks_at_wakes_a_job(world: World):
    world.caches.see_child("ADDED", child(1))
    world.caches.see_pod("ADDED", pod(1))
    assert world.news() == ["some", "some"]
    world.caches.see_child("MODIFIED", child(2))
    world.caches.see_pod("MODIFIED", pod(2))
    assert world.news() == []
    world.caches.see_child("MODIFIED", child(3, suspend=True))
    world.caches.see_pod("MODIFIED", pod(3, phase="Running"))
    assert world.news() == ["some", "some"]


def test_a_job_made_anew_outlives_late_words_of_the_one_before(world: World):
    world.caches.see_job("ADDED", job(1))
    world.caches.see_job(None, job(5, uid="u2"))
    world.caches.see_job(OURS, job(2))  # the answer to a write
    world.caches.see_job("MODIFIED", job(3))
    world.caches.drop_job(KEY, "u1")  # it is not there, says the API server
    world.caches.see_job("DELETED", job(4))
    assert world.caches.jobs[KEY].seen.uid == "u2"
    world.news()
    world.caches.see_job("MODIFIED", job(6, uid="u2", generation=2))
    assert world.news() == ["urgent"]


# --- sweeps ---
class Listed:
    """What the API server lists, and a clock."""

    def __init__(self, world: World) -> None:
        self.now = 0.0
        self.objects: dict[str, list[Any]] = {"jobs": [], "children": [], "pods": []}
        self.meanwhile = lambda: None
        self.sweep = Sweep(world.caches, self.list, lambda: self.now)

    async def list(self, kind: str) -> AsyncIterator[dict[str, Any]]:
        self.meanwhile()
        for raw in self.objects[kind]:
            yield raw["metadata"]

    def run(self) -> set[str]:
        return asyncio.run(self.sweep.run())


@pytest.fixture
def listed(world: World) -> Listed:
    return Listed(world)


def test_what_vanished_unseen_is_dropped_and_its_job_looked_at(world: World, listed: Listed):
    world.caches.see_job("ADDED", job(1))
    world.caches.see_child("ADDED", child(1))
    world.caches.see_pod("ADDED", pod(1))
    world.news()
    assert listed.run() == set()
    assert world.news() == ["urgent", "some", "some"]
    assert list(world.caches.everything()) == []


def test_what_comes_or_changes_during_a_sweep_is_not_dropped(world: World, listed: Listed):
    world.caches.see_child("ADDED", child(1))

    def meanwhile() -> None:
        world.caches.see_child("MODIFIED", child(7, suspend=True))
        world.caches.see_pod("ADDED", pod(8))

    listed.meanwhile = meanwhile
    listed.run()
    assert {name for _, name, *_ in world.caches.everything()} == {"c1", "p1"}


def test_what_is_listed_and_not_kept_is_missing_until_a_watch_tells_it(world: World, listed: Listed):
    listed.objects["jobs"] = [job(1)]
    assert listed.run() == {"u1"}
    world.caches.see_job(None, job(1))
    assert listed.run() == set()


@pytest.mark.parametrize(
    ("kept", "then", "overdue"),
    [
        pytest.param(1, 1, 60.0, id="the watch tells nothing"),
        pytest.param(1, 3, 0.0, id="the watch is late, and moves"),
        pytest.param(5, 5, 0.0, id="the watch told it"),
        pytest.param(6, 6, 0.0, id="the watch is ahead of the list"),
    ],
)
def test_a_watch_that_tells_nothing_is_overdue(world: World, listed: Listed, kept: int, then: int, overdue: float):
    listed.objects["children"] = [child(5)]
    world.caches.see_child("ADDED", child(kept))
    listed.run()
    listed.now = 60.0
    world.caches.see_child("MODIFIED", child(then))
    listed.run()
    assert listed.sweep.overdue() == overdue


def test_what_watches_owed_is_forgotten_while_nobody_answers(world: World, listed: Listed):
    def away() -> None:
        raise Unavailable("the API server cannot be reached")

    listed.objects["children"] = [child(5)]
    world.caches.see_child("ADDED", child(1))
    listed.run()
    listed.meanwhile = away
    listed.now = 60.0
    with pytest.raises(Unavailable):
        listed.run()
    listed.now = 1000.0
    assert listed.sweep.overdue() == 0
    listed.meanwhile = lambda: None  # back, and the watches have not begun again yet
    listed.run()
    assert listed.sweep.overdue() == 0
