"""`batchyard run` with all that a job reads, and its results, in a real S3 server; and what a person is told."""

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from s3_server import BUCKET, READER, WRITER, S3Server, free_ports

SETTLED = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
COMMAND = [sys.executable, "-m", "batchyard.cli.main"]
PREDICTING = """
from helper import rows
class Handler:
    def __init__(self, tensorflow_client, config):
        self.client = tensorflow_client
    def handle_batch(self, payload):
        return [float(row[0]) for row in self.client.predict({"x": rows(payload)})["y"]]
"""
ECHO = """
class Handler:
    def __init__(self, config): ...
    def handle_batch(self, payload):
        return payload
"""


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.out, self.err
        told: dict[str, Any] = json.loads(self.out)
        return told


@pytest.fixture
def run(s3: S3Server, tmp_path: Path) -> Callable[..., Ran]:
    """A function that writes a manifest of ``spec`` and gives it to a command, `run --json` unless told."""

    def run(*command: str, environment: dict[str, str] | None = None, endpoint: str = "", **spec: Any) -> Ran:
        (tmp_path / "handler.py").write_text(ECHO)
        default = {
            "handler": {"type": "python", "path": "handler.py"},
            "storage": {"endpoint": endpoint or s3.endpoint},
        }
        manifest = {
            "apiVersion": "batchyard.dev/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": "job"},
            "spec": default | spec,
        }
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest))
        first, *rest = command or ("run", "--json")
        done = subprocess.run(
            [*COMMAND, first, "job.yaml", *rest],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            env=os.environ | SETTLED | (environment or {}),
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def put(s3: S3Server, new_prefix: Callable[[], str]) -> Callable[[dict[str, bytes]], str]:
    """A function that puts objects below a prefix of their own and returns its URL."""

    def put(files: dict[str, bytes]) -> str:
        url, client = new_prefix(), s3.client()
        for name, content in files.items():
            client.put_object(Bucket=BUCKET, Key=f"{url.removeprefix(f's3://{BUCKET}/')}/{name}", Body=content)
        return url

    return put


def project() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("src/handler.py", PREDICTING)
        archive.writestr("helper.py", "def rows(payload):\n    return [[item['x'], 0.0, 0.0] for item in payload]\n")
    return held.getvalue()


@pytest.mark.tensorflow
def test_a_job_whose_parts_all_lie_in_a_bucket_runs_and_fetches_its_model_once(s3, put, run, savedmodels):
    model = savedmodels / "half_plus"
    files = {
        f"models/half/{p.relative_to(model).as_posix()}": p.read_bytes() for p in model.rglob("*") if p.is_file()
    }
    lines = [json.dumps({"x": float(i)}).encode() for i in range(100)]
    files |= {"code/p.zip": project(), "in/a b.jsonl": b"\n".join(lines[:50]), "in/skip.txt": b"not JSON"}
    url = put(files | {"in/b.jsonl.gz": gzip.compress(b"\n".join(lines[50:]))})
    spec = {
        "handler": {
            "type": "tensorflow",
            "path": "src/handler.py",
            "project": {"s3": f"{url}/code/p.zip"},
            "models": {"path": f"{url}/models/half", "versions": "latest"},
        },
        "input": {"delimitedFiles": {"paths": [f"{url}/in"], "excludes": ["*.txt"]}, "batchSize": 8},
        "output": {"path": f"{url}/out"},
        "workers": 2,
    }
    told = run(**spec).json
    assert (told["exitCode"], told["batches"]["succeeded"], told["batches"]["total"]) == (0, 13, 13), told
    prefix = f"{url.removeprefix(f's3://{BUCKET}/')}/out/parts/"
    listed = s3.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    parts = sorted(found["Key"] for found in listed)
    read = [s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in parts]
    results = [json.loads(line)["result"] for part in read for line in part.splitlines()]
    assert results == [i / 2 + 10 for i in range(100)]
    again = run("run", **spec)
    assert again.code == 0, again.err
    assert "fetching the model" not in again.err


def test_a_dry_run_counts_what_is_in_the_bucket(put, run):
    url = put({"in/a.jsonl": b"1\n2\n3\n", "in/b.csv": b"x\n1\n"})
    told = run("run", "--dry-run", "--json", input={"delimitedFiles": {"paths": [f"{url}/in"]}, "batchSize": 3}).json
    assert (told["items"], told["batches"], told["exitCode"]) == (4, 2, 0), told


def test_each_key_can_be_an_item(s3, put, run, tmp_path):
    url = put({"img/é +.jpg": b"x", "img/b%20.jpg": b"x"})
    told = run(input={"files": {"paths": [f"{url}/img/*.jpg"]}, "batchSize": 9}, output={"path": "out"}).json
    assert told["exitCode"] == 0, told
    lines = [
        json.loads(line)
        for path in (tmp_path / "out").rglob("part-*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert {line["result"] for line in lines} == {f"{url}/img/é +.jpg", f"{url}/img/b%20.jpg"}


def test_validate_asks_no_bucket(run):
    spec = {"input": {"files": {"paths": ["s3://nobody/x"]}}, "output": {"path": "s3://nobody/out"}}
    ran = run("validate", endpoint=f"http://127.0.0.1:{free_ports(1)[0]}", **spec)
    assert (ran.code, ran.out) == (0, "ok: job\n"), ran.err


NOBODY = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
BLIND = {"AWS_ACCESS_KEY_ID": WRITER[0], "AWS_SECRET_ACCESS_KEY": WRITER[1]}
WRONG = {"AWS_ACCESS_KEY_ID": READER[0], "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see"}
MODELS = {"type": "tensorflow", "models": {"path": "{u}/models/m"}}
PROJECT = {"type": "python", "path": "handler.py", "project": {"s3": "{u}/code/p.zip"}}
FILES = {"delimitedFiles": {"paths": ["{u}/in/a.jsonl"]}}


@pytest.mark.parametrize(
    ("environment", "spec", "words"),
    [
        pytest.param(NOBODY, {"input": FILES}, "input.delimitedFiles.paths[0]: {u}/in/a.jsonl/: no AWS credentials",
                     id="input without credentials"),
        pytest.param(BLIND, {"input": FILES}, "access is denied: the credentials in use lack s3:", id="input denied"),
        pytest.param(WRONG, {"input": FILES}, "does not accept the access key or its secret", id="a wrong secret"),
        pytest.param({}, {"input": {"files": {"paths": ["{u}/inn/"]}}},
                     "nothing at this key or below it, expected a key, prefix or glob. Did you mean '{u}/in'?",
                     id="no such prefix"),
        pytest.param({}, {"input": {"files": {"paths": ["s3://nowhere/x"]}}}, "there is no such bucket", id="bucket"),
        pytest.param(NOBODY, {"handler": MODELS}, "models.path: {u}/models/m/: no AWS credentials", id="model"),
        pytest.param(BLIND, {"handler": MODELS},
                     "models.path: {u}/models/m/: access is denied: the credentials in use lack s3:ListBucket there.",
                     id="model denied"),
        pytest.param({}, {"handler": MODELS}, "models.path: there is no file below {u}/models/m.", id="no model"),
        pytest.param(BLIND, {"handler": PROJECT},
                     "spec.handler.project.s3: {u}/code/p.zip: access is denied: the credentials in use lack "
                     "s3:GetObject there", id="project denied"),
        pytest.param({}, {"handler": PROJECT}, "spec.handler.project.s3: {u}/code/p.zip: there is no such file.",
                     id="no project"),
    ],
)  # fmt: skip
def test_what_a_bucket_refuses_is_one_sentence_and_nothing_starts(put, run, tmp_path, environment, spec, words):
    url = put({"in/a.jsonl": b"1\n"})
    spec = {"input": {"items": [1]}} | spec
    ran = run("run", environment=environment, **json.loads(json.dumps(spec).replace("{u}", url)))
    assert ran.code == 2, ran
    last = ran.err.strip().splitlines()[-1]
    assert last.startswith("batchyard: ")
    assert words.format(u=url) in last
    assert "secret-that" not in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / ".batchyard/job/run.json").exists()
