"""A job whose project, model, input and results all lie in a bucket, in pods that have no disk of their own."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pod_harness import MakeJob
from s3_server import BUCKET, OWNER, READER, REGION, S3Server, missing

HANDLER = dedent(
    """
    class Handler:
        def __init__(self, tensorflow_client, config):
            self.client = tensorflow_client
        def handle_batch(self, payload):
            return [float(self.client.predict({"x": [item]})["y"][0]) for item in payload]
    """
)


@pytest.fixture
def s3(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    if missing():
        pytest.skip(missing())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    monkeypatch.setenv("AWS_REGION", REGION)
    server = S3Server(tmp_path_factory.mktemp("s3") / "server")
    yield server
    server.close()


def spec(s3: S3Server, **more: Any) -> dict[str, Any]:
    return {
        "handler": {
            "type": "tensorflow",
            "path": "handler.py",
            "project": {"s3": f"s3://{BUCKET}/code/project.zip"},
            "models": {"path": f"s3://{BUCKET}/models/constants"},
        },
        "input": {"delimitedFiles": {"paths": [f"s3://{BUCKET}/in/"]}, "batchSize": 4},
        "output": {"path": f"s3://{BUCKET}/out"},
        "storage": {"endpoint": s3.endpoint},
        **more,
    }


def fill(s3: S3Server, savedmodels: Path) -> None:
    """Put a project, a model and twenty numbers into the bucket."""
    client, archive = s3.client(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("handler.py", HANDLER)
    client.put_object(Bucket=BUCKET, Key="code/project.zip", Body=archive.getvalue())
    for path in (savedmodels / "constants").rglob("*"):
        if path.is_file():
            key = f"models/constants/{path.relative_to(savedmodels / 'constants')}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    for i in range(2):
        lines = "".join(f"{i * 10 + n}\n" for n in range(10))
        client.put_object(Bucket=BUCKET, Key=f"in/{i}.jsonl", Body=lines.encode())


def test_a_job_lives_in_a_bucket_alone(make_job: MakeJob, s3: S3Server, savedmodels: Path) -> None:
    fill(s3, savedmodels)
    client = s3.client()
    for _ in range(2):  # the second time as the same job, deleted and made again
        job = make_job(spec(s3))
        assert job.pod(None).enqueue().wait().code == 0
        pod = job.pod(0)
        fetched = pod.fetch().wait()
        assert fetched.code == 0, fetched.out
        pod.serving()
        ended = pod.worker().wait()
        assert ended.code == 0, ended.out
        told = json.loads(client.get_object(Bucket=BUCKET, Key="out/manifest.json")["Body"].read())
        assert (told["jobId"], told["parts"]["count"], told["state"]) == (job.id, 5, "Succeeded")
    keys = [o["Key"] for o in client.list_objects_v2(Bucket=BUCKET, Prefix="out/parts/")["Contents"]]
    lines = [line for key in keys for line in client.get_object(Bucket=BUCKET, Key=key)["Body"].read().splitlines()]
    assert [json.loads(line)["result"] for line in lines] == [3.0 * number for number in range(20)]


@pytest.mark.parametrize(
    ("changed", "reason", "said"),
    [
        pytest.param({"project": {"s3": f"s3://{BUCKET}/code/none.zip"}}, "HandlerInvalid", "none.zip", id="project"),
        pytest.param({"models": {"path": f"s3://{BUCKET}/models/iris"}}, "ModelInvalid", "models/iris", id="model"),
        pytest.param({"path": "main.py"}, "HandlerInvalid", "main.py", id="handler"),
    ],
)
def test_what_the_bucket_lacks_halts_the_job(
    make_job: MakeJob, s3: S3Server, savedmodels: Path, changed: dict[str, Any], reason: str, said: str
) -> None:
    fill(s3, savedmodels)
    given = spec(s3)
    job = make_job({**given, "handler": {**given["handler"], **changed}})
    ended = job.pod(1).fetch().wait()
    assert ended.code == 64, ended.out
    assert job.halt[0] == reason
    assert said in job.halt[1]


def test_an_output_that_the_pods_may_not_write_halts_the_job(
    make_job: MakeJob, s3: S3Server, savedmodels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(s3, savedmodels)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    job = make_job(spec(s3))
    ended = job.pod(None).enqueue().wait()
    assert ended.code == 64, ended.out
    assert job.halt[0] == "OutputInvalid"
    assert f"s3://{BUCKET}/out" in job.halt[1]
    assert READER[1] not in ended.out + ended.word + job.halt[1]
