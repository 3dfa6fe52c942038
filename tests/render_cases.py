"""Jobs and settings from which the operator renders; the golden files and the API server's dry runs share them."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from batchyard.api.spec import BatchJob
from batchyard_operator.model import JobSeen, Key, Wanted
from batchyard_operator.render import render
from batchyard_operator.settings import OperatorSettings

GOLDEN = Path(__file__).parent / "unit" / "operator_render" / "golden"
UPDATE = "UPDATE_GOLDEN"  # set to 1: the golden files are written anew, to be read in the diff

UID = "7d9f5f3a-5d2c-4a53-8a39-0c3a0f3e6b11"
START = 1767225600.0
INSIDE: dict[str, Any] = {
    "queue": {"url": "nats://batchyard-nats.batchyard:4222"},
    "images": {"handler": "batchyard/handler:0.1.0"},
}
OUTSIDE: dict[str, Any] = {
    "queue": {"url": "tls://nats-0.example:4222,nats-1.example:4222", "replicas": 3, "lease": 45},
    "images": {"handler": "mirror.example/handler:0.1.0", "serving": "mirror.example/tf:{version}-x"},
    "pods": {"run_as_user": None, "grace": 125, "startup": 600},
    "work": "s3://work/batches",
}


def seen(spec: dict[str, Any], name: str = "digits") -> JobSeen:
    """The job as the operator sees it when its manifest has this ``spec``."""
    manifest = {
        "apiVersion": "batchyard.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name, "labels": {"team": "vision"}, "resourceVersion": "1234", "managedFields": []},
        "spec": spec,
        "status": {"state": "Running"},
    }
    job = BatchJob.model_validate(manifest)
    return JobSeen(Key("batch", name), UID, 1, START, False, True, job, (), {"state": "Running"})


def objects(
    spec: dict[str, Any],
    *,
    name: str = "digits",
    settings: dict[str, Any] | None = None,
    wanted: Wanted | None = None,
    credentials: dict[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """What is rendered, by the end of each object's name: ``workers``, ``enqueuer``, ``job``, ``queue``."""
    rendered = render(
        seen(spec, name),
        OperatorSettings.model_validate(settings or INSIDE),
        START,
        wanted or Wanted(workers=spec.get("workers", 1), suspend=False, enqueuer="items" not in spec["input"]),
        {"NATS_USER": "batchyard", "NATS_PASSWORD": "s3cret"} if credentials is None else credentials,
    )
    return {each["metadata"]["name"].removeprefix(f"{name}-"): each for each in rendered}


ITEMS: dict[str, Any] = {"items": [1, 2]}
FILES: dict[str, Any] = {"files": {"paths": ["s3://b/c"]}}


def python(**handler: Any) -> dict[str, Any]:
    """The spec of a job of type python."""
    return {"handler": {"type": "python", "path": "h.py", **handler}, "input": ITEMS}


def tensorflow(**handler: Any) -> dict[str, Any]:
    """The spec of a job of type tensorflow."""
    return {"handler": {"type": "tensorflow", "models": {"path": "/m"}, **handler}, "input": ITEMS}


def pod_of(spec: dict[str, Any], which: str = "workers", **more: Any) -> dict[str, Any]:
    """The spec of the pods of one of the two Jobs."""
    found = objects(spec, **more)[which]["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


def containers_of(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in [*pod.get("initContainers", []), *pod["containers"]]}


@dataclass(frozen=True)
class Case:
    """A job of the golden files."""

    spec: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)

    def objects(self) -> list[dict[str, Any]]:
        return list(objects(self.spec, **self.more).values())


def _spec(text: str) -> dict[str, Any]:
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


CASES = {
    "python-inline": Case(
        _spec("""
handler:
  type: python
  path: handler.py
  project: {inline: {handler.py: "class Handler:\\n    ...\\n"}}
  config: {threshold: 0.5, labels: [a, null]}
input: {items: [1, {id: two}, null, "drei – 3"], batchSize: 2}
workers: 3
timeout: 2h
ttlSecondsAfterFinished: 600
"""),
    ),
    "tensorflow-image-volumes": Case(
        _spec("""
handler:
  type: tensorflow
  path: src/handler.py
  project: {image: /app}
  image: example/app:7
  models: {path: /models/digits}
  tensorflowVersion: 2.19.0
  servingResources: {requests: {cpu: 2, memory: 1Gi}, limits: {cpu: 2500m, memory: 4Gi}}
input: {delimitedFiles: {paths: [/data/items.jsonl]}, batchSize: 50}
output: {path: /data/out}
workers: 2
pod:
  volumes:
  - {name: models, persistentVolumeClaim: {claimName: models, readOnly: true}}
  - {name: data, persistentVolumeClaim: {claimName: data}}
  volumeMounts:
  - {name: models, mountPath: /models}
  - {name: data, mountPath: /data, subPath: digits}
"""),
    ),
    "everything": Case(
        _spec("""
handler:
  type: tensorflow
  path: handler.py
  project: {configMap: project-files}
  models: {paths: [{name: a, path: "s3://bucket/a"}, {name: b, path: "s3://bucket/b", signatureKey: s}]}
  tensorflowVersion: 2.14.1
  servingImage: example/tf:2.14.1-gpu
  image: example/app:7
  env:
  - {name: AWS_REGION, value: eu-west-1}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: WHERE, value: $(BATCHYARD_POD)}
  - {name: EMPTY}
  envFrom:
  - {secretRef: {name: s3}}
  - {configMapRef: {name: settings, optional: true}, prefix: APP_}
  dependencies: {pip: [pillow==11.0.0]}
  processes: 2
  threads: 4
  resources: {requests: {cpu: 1, memory: 2Gi}, limits: {memory: 2Gi, nvidia.com/gpu: 1}}
  servingResources: {limits: {cpu: 4, memory: 8Gi}}
  logLevel: debug
input: {files: {paths: ["s3://bucket/images"], includes: ["*.jpg"]}, batchSize: 8}
output: {path: "s3://bucket/out", key: id}
workers: 10
retry: {maxAttempts: 5, backoff: {initial: 2s, max: 1m}}
errorThreshold: {percent: 2.5}
batchTimeout: 10m
timeout: 24h
pod:
  labels: {team: vision, app.kubernetes.io/name: mine, batchyard.dev/job: other}
  annotations: {example.com/note: hello, kubectl.kubernetes.io/default-container: fetch}
  nodeSelector: {disk: ssd}
  tolerations: [{key: spot, operator: Exists, effect: NoSchedule}]
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 1
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector: {matchLabels: {batchyard.dev/job: digits}}
  serviceAccountName: reader
  priorityClassName: low
  imagePullSecrets: [{name: pull}]
  schedulerName: other
  runtimeClassName: sandbox
  topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {batchyard.dev/job: digits}}
  securityContext: {runAsUser: 1000, supplementalGroups: [2000], fsGroupChangePolicy: null}
"""),
    ),
    "nats-outside": Case(
        _spec("""
handler:
  type: tensorflow
  models: {dir: "s3://bucket/models"}
input: {delimitedFiles: {paths: ["s3://bucket/items/"]}}
"""),
        {"settings": OUTSIDE, "credentials": {"NATS_TOKEN": "t0ken", "NATS_USER": ""}},
    ),
    "suspended-without-credentials": Case(
        _spec("""
handler: {type: python, path: handler.py, project: {s3: "s3://bucket/project.zip"}}
input: {files: {paths: ["s3://bucket/images"]}}
suspend: true
workers: 4
"""),
        {"wanted": Wanted(workers=4, suspend=True, enqueuer=True), "credentials": {}},
    ),
}


def is_updating() -> bool:
    """Whether the golden files are to be written anew."""
    return os.environ.get(UPDATE) == "1"
