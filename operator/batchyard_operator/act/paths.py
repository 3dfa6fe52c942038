"""Where objects are on the API server: one path a kind; apart because everything that talks to it says it so."""

from urllib.parse import quote

BATCHJOBS = ("batchyard.dev", "v1alpha1", "batchjobs")
JOBS = ("batch", "v1", "jobs")
PODS = ("", "v1", "pods")
EVENTS = ("", "v1", "events")
CONFIGMAPS = ("", "v1", "configmaps")
SECRETS = ("", "v1", "secrets")

Resource = tuple[str, str, str]
"""Group, version and plural name."""

_OF_KIND = {"Job": JOBS, "ConfigMap": CONFIGMAPS, "Secret": SECRETS}


def resource_of(kind: str) -> Resource:
    """Return the resource of a child's kind."""
    return _OF_KIND[kind]


def path(resource: Resource, namespace: str = "", name: str = "", sub: str = "") -> str:
    """Return the path of an object, of a namespace's objects, or of the whole cluster's."""
    group, version, plural = resource
    parts = [f"/apis/{group}/{version}" if group else f"/api/{version}"]
    parts += [f"namespaces/{quote(namespace)}"] if namespace else []
    parts += [plural, *([quote(name)] if name else []), *([sub] if sub else [])]
    return "/".join(parts)
