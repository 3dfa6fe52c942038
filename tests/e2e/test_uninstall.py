"""The last end-to-end test: uninstalling leaves the BatchJob resource, so that nobody's jobs are deleted with it."""

import pytest
from cluster_harness import Cluster, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/batchjobs.batchyard.dev"


def test_uninstall_keeps_the_resource_of_batchjobs(cluster: Cluster, release: str) -> None:
    cluster.helm("uninstall", "batchyard", "--namespace", release, "--wait")
    until(lambda: not cluster.pods(release, "app.kubernetes.io/component in (operator,nats)"), "no pod is left")
    assert cluster.get(CRD)
