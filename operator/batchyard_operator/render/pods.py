"""The pod around the containers: security, volumes, and what a user's ``spec.pod`` adds."""

from dataclasses import dataclass
from typing import Any

from batchyard.api.names import podfile_name
from batchyard.api.spec import Spec

from batchyard_operator.settings import OperatorSettings

MNT_VOLUME = "batchyard-mnt"
JOB_VOLUME = "batchyard-job"
PROJECT_VOLUME = "batchyard-project"

_PLACED_BY_US = ("labels", "annotations", "volumes", "volumeMounts", "securityContext")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the pods of one job are made from. ``credentials``: the variables of the queue's Secret."""

    job: str
    labels: dict[str, str]
    spec: Spec
    settings: OperatorSettings
    credentials: frozenset[str]

    @property
    def added(self) -> dict[str, Any]:
        """A fresh copy of ``spec.pod``, by the names of Kubernetes, which are those of the manifest."""
        pod = self.spec.pod
        return {} if pod is None else pod.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)


def pod_template(
    pods: PodFacts, component: str, main: str, *, init: list[dict[str, Any]], container: dict[str, Any]
) -> dict[str, Any]:
    """Return the pod template. ``main`` names the container whose log ``kubectl logs`` shows."""
    added = pods.added
    spec: dict[str, Any] = {
        **{name: value for name, value in added.items() if name not in _PLACED_BY_US},
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": pods.settings.pods.grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # hundreds of variables in a full namespace, and one may be ours
        "securityContext": _security(pods, added.get("securityContext", {})),
        "containers": [container],
        "volumes": [*_volumes(pods, component), *added.get("volumes", [])],
    }
    if init:
        spec["initContainers"] = init
    metadata = {
        "labels": {**added.get("labels", {}), **pods.labels, "app.kubernetes.io/component": component},
        "annotations": {**added.get("annotations", {}), "kubectl.kubernetes.io/default-container": main},
    }
    return {"metadata": metadata, "spec": spec}


def _volumes(pods: PodFacts, component: str) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": MNT_VOLUME, "emptyDir": {}},
        {"name": JOB_VOLUME, "configMap": {"name": podfile_name(pods.job)}},
    ]
    project = pods.spec.handler.project
    if component == "worker" and project is not None and project.config_map is not None:
        volumes.append({"name": PROJECT_VOLUME, "configMap": {"name": project.config_map}})
    return volumes


def _security(pods: PodFacts, added: dict[str, Any]) -> dict[str, Any]:
    """Return the pod's security context: what Pod Security "restricted" wants, and the user's fields over it.

    The group is set with the user, else it would be root's; fsGroup makes volumes writable to both. Without a user
    in the settings the cluster gives one (OpenShift), or the image names one by number.
    """
    user = pods.settings.pods.run_as_user
    ours: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if user is not None:
        ours |= {
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",  # else every start walks through a volume of a million files
        }
    return {name: value for name, value in {**ours, **added}.items() if value is not None}
