"""The chart grants the operator what it does, and nothing more: a real one lives on exactly these rights.

The API server's audit log says what was asked for. No controller runs: the test plays them, and makes the rare cases
in which a right is needed.
"""

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import api_server as api_servers
import nats_server
import pytest
import yaml
from api_server import ApiServer
from batchyard_operator.act.door import Door
from batchyard_operator.act.errors import Conflict
from batchyard_operator.act.status import Statuses
from batchyard_operator.model import Key
from batchyard_operator.observe.caches import Caches
from chart_harness import NAMESPACE, Helm, Object
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_kube_config
from nats_server import NatsServer
from operator_harness import Job, Operator, Space, know_batchjobs, wait_for

Right = tuple[str, str, str]
"""Group, resource with its subresource, verb."""

FINALIZERS = ("batchyard.dev", "batchjobs/finalizers", "update")
TRACKED = "batch.kubernetes.io/job-tracking"
_numbers = itertools.count()


@dataclass(frozen=True)
class Account:
    """An operator's account on a server, with the rights of the chart. ``server``: what its kubeconfig points at."""

    name: str
    server: ApiServer
    audit: Path
    granted: frozenset[Right]

    def asked(self) -> list[Object]:
        """The requests of the account, as the audit log has them."""
        lines = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [line for line in lines if line["user"]["username"] == self.name]

    def used(self) -> set[Right]:
        """The rights that were made use of."""
        found = set()
        for line in self.asked():
            if seen := line.get("objectRef"):
                resource = "/".join(part for part in (seen["resource"], seen.get("subresource")) if part)
                found.add((seen.get("apiGroup", ""), resource, line["verb"]))
        return found

    def wait_until_used(self, *rights: Right) -> None:
        wait_for(f"{rights}", lambda: set(rights) <= self.used())


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, Path]]:
    """A server that keeps an audit log, and asks for the right to block an owner's deletion."""
    if what := api_servers.missing() or nats_server.missing():
        pytest.skip(what)
    folder = tmp_path_factory.mktemp("audited")
    policy, log = folder / "policy.json", folder / "audit.log"
    rules = [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]
    policy.write_text(
        json.dumps(
            {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        )
    )
    flags = [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={log}",
        "--audit-log-mode=blocking-strict",
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
    ]
    with api_servers.running(folder / "server", *flags) as server:
        yield know_batchjobs(server), log


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    yield server
    server.close()


def account(helm: Helm, audited: tuple[ApiServer, Path], folder: Path, *flags: str) -> Account:
    """Make the account and the rights of a release of its own."""
    server, audit = audited
    release = f"yard-{next(_numbers)}"
    server.kubectl("create", "namespace", NAMESPACE)
    objects = [o for o in helm.render(*flags, release=release) if o["metadata"]["name"] == f"{release}-batchyard"]
    wanted = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    objects = [o for o in objects if o["kind"] in wanted]
    applied = server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert applied.returncode == 0, applied.stderr
    role = next(o for o in objects if o["kind"] in ("Role", "ClusterRole"))  # one a namespace, all alike
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{release}-batchyard/token"
    status, answer = server.request("POST", path, {"spec": {"expirationSeconds": 3600}})
    assert status == 201, answer
    config = json.loads(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": answer["status"]["token"]}
    (folder / "kubeconfig").write_text(json.dumps(config))
    return Account(
        f"system:serviceaccount:{NAMESPACE}:{release}-batchyard",
        replace(server, folder=folder, processes=[]),
        audit,
        frozenset(
            (group, resource, verb)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        ),
    )


def foreign_job(space: Space, name: str) -> None:
    """Make a Job of somebody else's."""
    pod = {"containers": [{"name": "one", "image": "none"}], "restartPolicy": "Never"}
    space.post("jobs", {"metadata": {"name": name}, "spec": {"template": {"spec": pod}}})


def ended(job: Job) -> None:
    """Halt the job's queue and wait until its status says so."""
    queue = job.queue()
    queue.halt("HandlerInvalid", "found nothing")
    queue.close()
    job.wait_for_state("Failed")


def lose_workers(space: Space) -> None:
    """Take a job's child Job away, and leave its pods: there is no garbage collector that would clear the mark."""
    space.delete("jobs", "digits-workers", propagationPolicy="Orphan")
    if space.get("jobs", "digits-workers") is not None:
        space.patch("jobs", "digits-workers", {"metadata": {"finalizers": None}})


def live(space: Space, operator: Operator, account: Account) -> None:
    """Lead jobs through what can happen to them; each step says which rights it is there for."""
    operator.start()
    job = space.create()
    job.wait_for_workers()  # its finalizer, its status, its children, an Event of its start
    job.spec(workers=3)
    account.wait_until_used(("batch", "jobs", "patch"))
    account.wait_until_used(("", "events", "list"))  # why are there no pods?
    operator.kill()
    lose_workers(space)
    operator.start()
    job.wait_for_workers()  # what is made beside them is there already
    account.wait_until_used(("", "configmaps", "patch"), ("", "secrets", "patch"))
    foreign_job(space, "taken-workers")
    space.create("taken")
    account.wait_until_used(("batch", "jobs", "get"))
    orphan = job.make_pod("digits-workers-0-orphan")["metadata"]["name"]
    space.patch("pods", orphan, {"metadata": {"finalizers": [TRACKED]}})
    ended(job)
    lose_workers(space)
    job.spec(ttlSecondsAfterFinished=1)  # the job is deleted, and the pods that no Job owns
    account.wait_until_used(("", "pods", "delete"), ("", "pods", "patch"))
    space.delete("pods", orphan, gracePeriodSeconds=0)  # as its node's kubelet does
    wait_for("the job's end", lambda: space.get("batchjobs", "digits") is None)
    deleted = space.create("deleted")
    deleted.wait_for_workers()
    space.delete("batchjobs", "deleted")
    deleted.collect_children()  # once they are deleted
    wait_for("its end", lambda: space.get("batchjobs", "deleted") is None)
    assert operator.stop() == 0


async def hold_what_changed(space: Space, kubeconfig: Path) -> None:
    """Add the finalizer to a job that others changed meanwhile: the rare case that needs to read it again."""
    late = space.create("late")
    settings = Configuration()
    await load_kube_config(str(kubeconfig), client_configuration=settings, persist_config=False)
    caches, door = Caches(lambda _key, _change: None), Door(ApiClient(settings))
    caches.see_job("ADDED", late.object)
    seen = caches.jobs[Key(space.name, "late")].seen
    space.patch("batchjobs", "late", {"metadata": {"annotations": {"by": "somebody"}}})
    try:
        with pytest.raises(Conflict):
            await Statuses(door, caches).hold(seen)
    finally:
        await door.close()


@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_each_right_is_used_and_none_is_missing(
    helm: Helm,
    audited: tuple[ApiServer, Path],
    nats: NatsServer,
    tmp_path: Path,
    scope: str,
) -> None:
    server, _ = audited
    space, elsewhere = Space(server, nats, f"{scope}-jobs"), Space(server, nats, f"{scope}-elsewhere")
    namespaces = [space.name] if scope == "namespace" else []
    of_chart = account(helm, audited, tmp_path, *(f"--set=namespaces={{{name}}}" for name in namespaces))
    other = elsewhere.create("other")
    operator = Operator(tmp_path, of_chart.server, nats, namespaces=namespaces)
    try:
        live(space, operator, of_chart)
    finally:
        operator.close()
    asyncio.run(hold_what_changed(space, of_chart.server.kubeconfig))

    refused = [line["requestURI"] for line in of_chart.asked() if line["responseStatus"]["code"] in (401, 403)]
    assert refused == []
    assert of_chart.used() == of_chart.granted - {FINALIZERS}
    assert operator.traces() == []
    assert bool(other.status) == (scope == "cluster")


def test_a_namespace_whose_rights_are_gone_holds_up_no_other(
    helm: Helm, audited: tuple[ApiServer, Path], nats: NatsServer, tmp_path: Path
) -> None:
    server, _ = audited
    good, closed = Space(server, nats, "good"), Space(server, nats, "closed")
    of_chart = account(helm, audited, tmp_path, f"--set=namespaces={{{good.name},{closed.name}}}")
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{closed.name}/rolebindings"
    name = of_chart.name.rpartition(":")[2]
    assert server.request("DELETE", f"{roles}/{name}")[0] == 200
    job, other = good.create(), closed.create()
    operator = Operator(tmp_path, of_chart.server, nats, namespaces=[closed.name, good.name]).start()
    try:
        job.wait_for_workers()
        assert not other.status
        assert "cannot list resource" in operator.log
        assert operator.stop() == 0
    finally:
        operator.close()


def test_a_child_that_holds_its_job_back_is_refused_without_the_right_to_finalizers(
    helm: Helm, audited: tuple[ApiServer, Path], nats: NatsServer, tmp_path: Path
) -> None:
    """That right leaves no line in an audit log: the server asks itself, while it takes the child."""
    server, _ = audited
    space = Space(server, nats, "owners")
    job = space.create()
    of_chart = account(helm, audited, tmp_path)
    assert FINALIZERS in of_chart.granted
    owner = {"apiVersion": "batchyard.dev/v1alpha1", "kind": "BatchJob", "name": "digits", "uid": job.uid}
    child: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "child"}}
    child["metadata"]["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]

    def make() -> str:
        flags = ("create", "--dry-run=server", "--namespace", space.name, "-f", "-")
        return of_chart.server.kubectl(*flags, stdin=json.dumps(child)).stderr

    assert make() == ""
    name = of_chart.name.rpartition(":")[2]
    rules = server.request("GET", f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}")[1]["rules"]
    kept = {"rules": [rule for rule in rules if rule["resources"] != ["batchjobs/finalizers"]]}
    kind = "application/merge-patch+json"
    assert (
        server.request("PATCH", f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}", kept, kind=kind)[0] == 200
    )
    assert "cannot set blockOwnerDeletion" in wait_for("a refusal", make)
