"""The chart's tests run the real helm; without it they are skipped, with the command that builds it."""

import pytest
from chart_harness import Helm, helm_binary


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    if helm_binary() is None:
        pytest.skip("helm is not built: make helm (3 minutes once, needs Go)")
    return Helm(tmp_path_factory.mktemp("helm"))
