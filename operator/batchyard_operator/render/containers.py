"""The containers of a job's pods: what each runs, with which variables, resources and mounts."""

from typing import Any

from batchyard.api.names import queue_secret_name
from batchyard.api.podfile import (
    MNT,
    MODELS_CONFIG,
    POD_INDEX,
    POD_NAME,
    PODFILE,
    PROJECT_SOURCE,
    SERVING_PORT,
    SERVING_REST_PORT,
    SERVING_SOCKET,
    WORKER_SETTINGS,
)
from batchyard.api.serving_flags import Listen, server_arguments, server_version

from batchyard_operator.model import ENQUEUER, FETCH, HANDLER, SERVING
from batchyard_operator.render.pods import JOB_VOLUME, MNT_VOLUME, PROJECT_VOLUME, PodFacts
from batchyard_operator.render.quantity import whole_cores

Container = dict[str, Any]

_SERVE = f"""\
trap 'kill -9 "$server"; exit 143' TERM
umask 002
rm -f {SERVING_SOCKET}
tensorflow_model_server "$@" &
server=$!
wait "$server"
"""
"""Ends with the server's own exit code, and at once on SIGTERM, which the server ignores as the first process.

The trap comes first: the shell, as the first process itself, would lose a signal that it doesn't handle yet. The
socket of a server that crashed is removed, because the start-up probe looks for it. The mask lets the group connect,
for images whose users differ.
"""

_PROBE_SECONDS = 1


def fetch(pods: PodFacts) -> Container:
    """Return the init container that brings project, models and dependencies into ``/mnt``."""
    container = _ours(pods, FETCH, ["python", "-m", "batchyard.pod", "fetch"], _handler_resources(pods))
    project = pods.spec.handler.project
    if project is not None and project.config_map is not None:
        container["volumeMounts"].append({"name": PROJECT_VOLUME, "mountPath": PROJECT_SOURCE, "readOnly": True})
    return container


def handler(pods: PodFacts) -> Container:
    """Return the main container of a worker's pod."""
    return _ours(pods, HANDLER, ["python", "-m", "batchyard.worker", WORKER_SETTINGS], _handler_resources(pods))


def enqueuer(pods: PodFacts) -> Container:
    """Return the only container of the enqueuer's pod; it has a ``/mnt`` of its own."""
    resources = pods.settings.pods.model_dump(include={"enqueuer_resources"})["enqueuer_resources"]
    return _ours(pods, ENQUEUER, ["python", "-m", "batchyard.pod", "enqueue"], resources)


def serving(pods: PodFacts) -> Container:
    """Return the model server as a native sidecar: an init container that goes on, and is restarted where it is.

    Its start-up probe holds the handler back until the socket is there, which both TF Serving (2.3 to 2.20) and our
    own server make only once every model is loaded. No HTTP probe: it needs a model's name, which only the pod knows
    for ``models.dir``, and is answered for a model that still loads as well.
    """
    wanted = pods.spec.handler
    resources = _resources(pods, "serving")
    version = server_version(wanted.tensorflow_version)
    listen = Listen(port=SERVING_PORT, socket=SERVING_SOCKET, rest_port=SERVING_REST_PORT)
    flags = server_arguments(MODELS_CONFIG, listen, threads=whole_cores(resources), version=version)
    image = pods.settings.images.serving.replace("{version}", wanted.tensorflow_version)
    return {
        **_container(pods, SERVING, wanted.serving_image or image, resources),
        "restartPolicy": "Always",
        "command": ["/bin/sh", "-c", _SERVE, "serving", *flags],
        "ports": [
            {"name": "grpc", "containerPort": SERVING_PORT, "protocol": "TCP"},
            {"name": "rest", "containerPort": SERVING_REST_PORT, "protocol": "TCP"},
        ],
        "startupProbe": {
            "exec": {"command": ["/bin/sh", "-c", f"test -S {SERVING_SOCKET}"]},
            "periodSeconds": _PROBE_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": max(1, pods.settings.pods.startup // _PROBE_SECONDS),
        },
        "volumeMounts": [_mnt(), *({**mount, "readOnly": True} for mount in _users_mounts(pods))],
    }


def _ours(pods: PodFacts, name: str, command: list[str], resources: dict[str, Any]) -> Container:
    """Return a container of the handler's image that runs a module of ours."""
    container = {
        **_container(pods, name, pods.spec.handler.image or pods.settings.images.handler, resources),
        "command": command,
        "workingDir": MNT,  # an image's own may be a folder that only its own user may enter
        "env": _env(pods),
        "volumeMounts": [
            _mnt(),
            # a file, not the folder: in a ConfigMap's folder no further mount point can be made
            {"name": JOB_VOLUME, "mountPath": PODFILE, "subPath": "job.json", "readOnly": True},
            *_users_mounts(pods),
        ],
    }
    if sources := _env_from(pods):
        container["envFrom"] = sources
    return container


def _container(pods: PodFacts, name: str, image: str, resources: dict[str, Any]) -> Container:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pods.settings.images.pull_policy,
        "resources": resources,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _env(pods: PodFacts) -> list[dict[str, Any]]:
    """Return our variables and the user's, each name once, ours first so that the user's values may refer to them."""
    ours: list[dict[str, Any]] = [
        {"name": POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "PYTHONSAFEPATH", "value": "1"},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
    ]
    # a user's variable of the queue's would win over the Secret's, and one of the index over Kubernetes' own
    reserved = {entry["name"] for entry in ours} | {POD_INDEX} | pods.credentials
    given = (v.model_dump(by_alias=True, exclude_none=True) for v in pods.spec.handler.env if v.name not in reserved)
    return [*ours, *given]


def _env_from(pods: PodFacts) -> list[dict[str, Any]]:
    """Return the user's sources and, last so that it wins, the queue's Secret."""
    sources = pods.spec.handler.model_dump(by_alias=True, include={"env_from"})["envFrom"]
    if pods.credentials:
        sources.append({"secretRef": {"name": queue_secret_name(pods.job)}})
    return list(sources)


def _handler_resources(pods: PodFacts) -> dict[str, Any]:
    """Return the handler's resources. fetch has them too: it ends before the handler starts, so it costs nothing."""
    return _resources(pods, "handler")


def _resources(pods: PodFacts, whose: str) -> dict[str, Any]:
    """Return what the job gives, as a whole, else the operator's default."""
    given = pods.spec.handler.resources if whose == "handler" else pods.spec.handler.serving_resources
    if given is not None:
        return given.model_dump(by_alias=True, exclude_none=True)
    field = f"{whose}_resources"
    return dict(pods.settings.pods.model_dump(include={field})[field])


def _mnt() -> dict[str, Any]:
    return {"name": MNT_VOLUME, "mountPath": MNT}


def _users_mounts(pods: PodFacts) -> list[dict[str, Any]]:
    return list(pods.added.get("volumeMounts", []))
