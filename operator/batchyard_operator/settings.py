"""What the operator is told at start, parsed once: a YAML file that the chart writes."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QueueSettings(_Frozen):
    """The NATS servers as pods reach them, ``nats://host:port`` or ``tls://``, several with commas.

    Who we are is in the environment of the operator: NATS_USER and NATS_PASSWORD, or NATS_TOKEN. It is passed on to
    a job's pods in a Secret of the job's own. ``lease``: seconds after which a lost worker's batches come back.
    """

    url: str
    replicas: Literal[1, 3] = 1
    lease: float = 30.0


class ImageSettings(_Frozen):
    """The images of a job that names none. ``{version}`` in ``serving`` stands for ``handler.tensorflowVersion``."""

    handler: str
    serving: str = "tensorflow/serving:{version}"
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"


class PodSettings(_Frozen):
    """Defaults of a job's pods, as in Kubernetes, used where the job says nothing.

    ``grace`` is the pod's terminationGracePeriodSeconds; running batches get 5 s less. ``startup``: seconds that the
    models may take to load before the job fails with ModelInvalid.
    """

    handler_resources: dict[str, Any] = Field(
        default_factory=lambda: {
            "requests": {"cpu": "250m", "memory": "256Mi"},
        }
    )
    serving_resources: dict[str, Any] = Field(
        default_factory=lambda: {
            "requests": {"cpu": "250m", "memory": "512Mi"},
        }
    )
    enqueuer_resources: dict[str, Any] = Field(
        default_factory=lambda: {
            "requests": {"cpu": "100m", "memory": "128Mi"},
        }
    )
    run_as_user: int | None = 65532
    grace: int = 60
    startup: int = 1800


class OperatorSettings(_Frozen):
    """Everything the operator needs. ``namespaces`` empty: the whole cluster.

    ``work``: the prefix for batches that are larger than a message, ``s3://…`` or empty. ``status_writes`` is the
    budget of all status writes, a second.
    """

    namespaces: list[str] = Field(default_factory=list)
    queue: QueueSettings
    images: ImageSettings
    pods: PodSettings = PodSettings()
    work: str = ""
    turns: int = Field(default=16, ge=1)
    status_writes: float = Field(default=100.0, gt=0)
    liveness_port: int = 8080
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
