"""From a job and the operator's settings to Kubernetes objects as plain dicts: pure, with golden tests."""
