"""The only import of kopf: its watches fill the caches, its loop is the operator's, its probe says that we live.

``on.event`` handlers alone: kopf then keeps no state, adds no finalizer and writes nothing. What an event means for a
job is decided in its turn.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kopf

from batchyard_operator.model import JOB_LABEL
from batchyard_operator.observe.caches import Caches

See = Callable[[str | None, Mapping[str, Any]], None]

_PREFIX = "batchyard.dev"
_CHILDREN = (("batch", "v1", "jobs"), ("", "v1", "pods"))


def settings() -> Any:
    """Return kopf's settings: watches that notice a cut within seconds, and no writes of its own."""
    made = kopf.OperatorSettings()
    made.watching.inactivity_timeout = 15  # an idle watch begins again where it was
    made.watching.connect_timeout = 3
    made.networking.request_timeout = 30  # a list of a thousand jobs
    made.networking.connect_timeout = 3
    made.networking.error_backoffs = [0.5, 1, 1] + [2] * 300  # it gives up, and the operator ends, behind the last
    made.posting.enabled = False
    made.scanning.disabled = True  # else it watches every CRD and namespace of the cluster
    made.queueing.exit_timeout = 0.5
    made.queueing.idle_timeout = 2.0
    made.persistence.finalizer = f"{_PREFIX}/kopf-unused"  # it strips the one that it is told
    made.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_PREFIX)
    made.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=_PREFIX)
    selectors = made.watching.label_selectors
    for group, version, plural in _CHILDREN:
        selectors[group, version, plural] = JOB_LABEL
    return made


def registry(caches: Caches, health: Callable[[], str]) -> Any:
    """Return kopf's handlers: each event goes into ``caches``. ``health`` tells what is wrong, "" when nothing is."""
    made = kopf.OperatorRegistry()

    def seen_by(see: See) -> Callable[..., Any]:
        async def seen(event: Mapping[str, Any], **_: Any) -> None:
            see(event["type"], event["object"])

        return seen

    kopf.on.event("batchyard.dev", "v1alpha1", "batchjobs", id="job", registry=made)(seen_by(caches.see_job))
    kopf.on.event("batch", "v1", "jobs", id="child", registry=made)(seen_by(caches.see_child))
    kopf.on.event("", "v1", "pods", id="pod", registry=made)(seen_by(caches.see_pod))

    async def alive(**_: Any) -> str:
        if wrong := health():
            raise kopf.PermanentError(wrong)
        return "ok"

    kopf.on.probe(id="alive", registry=made)(alive)
    kopf.on.login(id="login", registry=made)(_login)
    return made


def _login(**kwargs: Any) -> Any:
    """Say who we are, by the same rule as the door does."""
    by_file = os.environ.get("KUBECONFIG") or not kopf.login_with_service_account(**kwargs)
    return kopf.login_with_kubeconfig(**kwargs) if by_file else kopf.login_with_service_account(**kwargs)


async def spawn(registered: Any, configured: Any, namespaces: Sequence[str], port: int, stop: Any) -> Any:
    """Start the watches; return what ``join`` takes. ``stop``: an asyncio.Event. ``port`` 0: no liveness endpoint."""
    return await kopf.spawn_tasks(
        registry=registered,
        settings=configured,
        standalone=True,
        identity="batchyard",  # unused when alone; by default it is a user's name, and ours may have none
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        liveness_endpoint=f"http://0.0.0.0:{port}/healthz" if port else None,
        stop_flag=stop,
    )


async def join(tasks: Any, ours: set[Any]) -> None:
    """Run until stopped, or until a watch fails for good; ``ours`` are tasks of the loop that kopf leaves alone."""
    await kopf.run_tasks(tasks, ignored=ours)
