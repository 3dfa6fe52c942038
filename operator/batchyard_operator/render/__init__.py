"""From a job and the operator's settings to Kubernetes objects as plain dicts: pure, with golden tests."""

from batchyard_operator.render.children import render
from batchyard_operator.render.jobs import scaling
from batchyard_operator.render.podfile import JobTooLarge

__all__ = ["JobTooLarge", "render", "scaling"]
