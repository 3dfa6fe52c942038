"""The installed release of all end-to-end tests, a namespace for each, and what to read after a failure."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_harness import ROOT, Cluster, Node, connected, require_cluster
from job_space import Space

RELEASE = "batchyard"
SYSTEM = "batchyard-system"
VALUES = ROOT / "testbed" / "values.yaml"
CHART = ROOT / "charts" / "batchyard"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster of KUBECONFIG, else of the test bed."""
    require_cluster()
    with connected(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="session")
def node(cluster: Cluster) -> Iterator[Node]:
    """The cluster's node."""
    pod = Node(cluster)
    yield pod
    pod.close()


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Iterator[str]:
    """Batchyard, installed by its chart; the name of its namespace."""
    cluster.run("helm", "uninstall", RELEASE, "--namespace", SYSTEM, "--wait")  # of a run that was killed
    values = Path(os.environ.get("E2E_VALUES", VALUES))
    where = ["--namespace", SYSTEM, "--create-namespace", "--values", str(values), "--set", "queue.lease=10"]
    where.append("--take-ownership")  # the CRD outlives releases, and may belong to one of another namespace
    try:
        cluster.helm("upgrade", "--install", RELEASE, str(CHART), *where, "--wait", "--timeout", "3m")
    except AssertionError as error:
        pytest.fail(f"{error}\n{cluster.told(SYSTEM)}", pytrace=False)
    yield SYSTEM
    cluster.run("helm", "uninstall", RELEASE, "--namespace", SYSTEM, "--wait")


@pytest.fixture
def space(cluster: Cluster, node: Node, release: str, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace for the test's jobs."""
    name = "e2e-" + re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
    made = Space(cluster, node, f"{name}-{os.urandom(2).hex()}")
    request.node.stash[_SPACE] = made
    yield made
    made.close()


@pytest.fixture
def streams(cluster: Cluster, release: str) -> Callable[[], dict[str, int]]:
    """Return the queue's streams, by NATS' own monitoring: name to the number of messages published so far."""
    path = f"/api/v1/namespaces/{release}/pods/{RELEASE}-nats-0:8222/proxy/jsz"

    def listed() -> dict[str, int]:
        seen = cluster.get(path, streams="true") or {}
        found = [one for account in seen.get("account_details", []) for one in account.get("stream_detail", [])]
        return {stream["name"]: stream["state"]["last_seq"] for stream in found}

    return listed


_SPACE = pytest.StashKey[Space]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Show what the cluster says beside a test that failed, while its namespace is still there."""
    report = (yield).get_result()
    space = item.stash.get(_SPACE, None)
    if report.failed and report.when == "call" and space:
        for namespace in (space.name, SYSTEM):
            report.sections.append((f"namespace {namespace}", space.cluster.told(namespace)))
