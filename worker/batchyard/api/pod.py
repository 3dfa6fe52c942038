"""What a user may add to a job's pods. Kubernetes' own types stay free: its API server checks them."""

from pydantic import Field

from batchyard.api.scalars import KubernetesObject, Text
from batchyard.api.strict import Strict


class Pod(Strict):
    """Additions to the pods of a job, as in Kubernetes. Cluster only; without effect on one machine."""

    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the pods.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the pods.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that a node must have.")
    tolerations: list[KubernetesObject] = Field(default_factory=list, description="Taints that the pods tolerate.")
    affinity: KubernetesObject | None = Field(default=None, description="Affinity to nodes and pods.")
    service_account_name: Text | None = Field(
        default=None, description="Service account, for a cloud's identity. No API token is mounted."
    )
    volumes: list[KubernetesObject] = Field(default_factory=list, description="Volumes beside our `/mnt`.")
    volume_mounts: list[KubernetesObject] = Field(
        default_factory=list, description="Where the handler's container mounts them."
    )
    priority_class_name: Text | None = Field(default=None, description="Priority class.")
    image_pull_secrets: list[KubernetesObject] = Field(
        default_factory=list, description="Secrets to pull images with."
    )
    scheduler_name: Text | None = Field(default=None, description="Scheduler in place of the default one.")
    runtime_class_name: Text | None = Field(default=None, description="Runtime class, for example of a sandbox.")
    topology_spread_constraints: list[KubernetesObject] = Field(
        default_factory=list, description="How pods spread over zones and nodes."
    )
    security_context: KubernetesObject | None = Field(
        default=None, description="Security context of the pod, over ours."
    )
