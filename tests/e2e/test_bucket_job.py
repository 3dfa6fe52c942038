"""A job whose project, model, input and results all lie in a bucket of an S3 server that runs in the cluster."""

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cluster_harness import ROOT, Cluster, Node, image
from job_space import Space

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DIGITS = ROOT / "examples" / "digits"
KEY, SECRET = "e2ekey", "e2e-secret-0123456789"
NAME = "s3"


def server(namespace: str) -> list[dict[str, Any]]:
    """The server as a pod with its service, and the Secret that jobs read their credentials from."""
    who = {"name": "owner", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    identities = {"identities": [{**who, "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}
    metadata = {"name": NAME, "namespace": namespace, "labels": {"app": NAME}}
    flags = [
        "server",
        "-dir=/data",
        "-ip.bind=0.0.0.0",
        "-filer",
        "-s3",
        "-s3.port=8333",
        "-s3.config=/config/s3.json",
    ]
    flags += [
        "-s3.config=/config/s3.json",
        "-volume.max=20",
        "-master.volumeSizeLimitMB=64",
        "-volume.minFreeSpace=1",
    ]
    flags += ["-master.telemetry=false"]
    container = {
        "name": NAME,
        "image": image("s3"),
        "args": flags,
        "workingDir": "/data",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "readinessProbe": {"httpGet": {"path": "/status", "port": 8333}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "data", "mountPath": "/tmp", "subPath": "tmp"},  # its sockets
            {"name": "config", "mountPath": "/config"},
        ],
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "config", "configMap": {"name": NAME}}],
    }
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"s3.json": json.dumps(identities)}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": NAME}, "ports": [{"port": 8333}]},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
    ]


PUT = """
import base64, json, sys, time
from botocore.config import Config
from botocore.session import Session
endpoint, key, secret = sys.argv[1:]
client = Session().create_client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key,
    aws_secret_access_key=secret, config=Config(retries={"total_max_attempts": 8}, s3={"addressing_style": "path"}))
client.create_bucket(Bucket="data")
for name, body in json.load(sys.stdin).items():
    for left in reversed(range(60)):
        try:
            client.put_object(Bucket="data", Key=name, Body=base64.b64decode(body))
            break
        except Exception:  # its volume server has not joined yet
            if not left:
                raise
            time.sleep(1)
"""
GET = (
    PUT.split("client.create_bucket", maxsplit=1)[0]
    + """
found = {}
for page in client.get_paginator("list_objects_v2").paginate(Bucket="data", Prefix="out/"):
    for one in page.get("Contents", []):
        found[one["Key"]] = client.get_object(Bucket="data", Key=one["Key"])["Body"].read().decode()
print(json.dumps(found))
"""
)


def files() -> dict[str, str]:
    """What lies in the bucket, in base64: the project as an archive, the model, the items."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as project:
        project.write(DIGITS / "handler.py", "handler.py")
    model = {f"model/{path.relative_to(DIGITS / 'model')}": path for path in Path(DIGITS / "model").rglob("*.*")}
    bodies = {name: path.read_bytes() for name, path in model.items() if path.is_file()}
    bodies |= {"project.zip": archive.getvalue(), "items.jsonl": (DIGITS / "items.jsonl").read_bytes()}
    return {name: base64.b64encode(body).decode() for name, body in bodies.items()}


def test_everything_of_a_job_lies_in_a_bucket(space: Space, node: Node, cluster: Cluster) -> None:
    cluster.apply(*server(space.name))
    space.kubectl("wait", f"pod/{NAME}", "--for=condition=Ready", "--timeout=120s")
    service = cluster.get(f"/api/v1/namespaces/{space.name}/services/{NAME}")
    assert service
    place = (f"http://{service['spec']['clusterIP']}:8333", KEY, SECRET)
    node.python(PUT, *place, stdin=json.dumps(files()))

    space.submit(
        "bucket",
        "",
        handler={
            "type": "tensorflow",
            "project": {"s3": "s3://data/project.zip"},
            "models": {"path": "s3://data/model"},
            "config": {"digits": list(range(10))},
            "envFrom": [{"secretRef": {"name": NAME}}],
        },
        storage={"endpoint": f"http://{NAME}:8333", "region": "us-east-1"},
        input={"delimitedFiles": {"paths": ["s3://data/items.jsonl"]}, "batchSize": 100},
        output={"path": "s3://data/out", "key": "id"},
        workers=2,
    )
    status = space.ended("bucket", patience=300)
    assert status["state"] == "Succeeded", status
    assert status["batches"] == {"total": 30, "succeeded": 30, "failed": 0, "running": 0, "pending": 0}
    results = json.loads(node.python(GET, *place))
    parts = sorted(name for name in results if name.startswith("out/parts/"))
    keys = [json.loads(line)["key"] for part in parts for line in results[part].splitlines()]
    assert keys == [f"digit-{number:04d}" for number in range(3000)]
