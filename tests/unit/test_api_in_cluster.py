"""What only a cluster refuses: each sentence says where, what was found and what is expected."""

from typing import Any

import pytest
from batchyard.api.in_cluster import problems
from batchyard.api.spec import BatchJob

MODELS = {"path": "s3://bucket/models/digits"}
BUILT_IN = {"type": "tensorflow", "models": MODELS}
INLINE = {"type": "python", "path": "handler.py", "project": {"inline": {"handler.py": "class Handler: ..."}}}


def job(handler: dict[str, Any] | None = None, **spec: Any) -> BatchJob:
    given = {"handler": handler or INLINE, "input": {"items": [1]}, **spec}
    data = {"apiVersion": "batchyard.dev/v1alpha1", "kind": "BatchJob", "metadata": {"name": "a"}, "spec": given}
    return BatchJob.model_validate(data)


def mounted(path: str) -> dict[str, Any]:
    volume = {"name": "results", "persistentVolumeClaim": {"claimName": "results"}}
    return {"volumes": [volume], "volumeMounts": [{"name": "results", "mountPath": path}]}


@pytest.mark.parametrize(
    "fine",
    [
        pytest.param(job(), id="an inline project"),
        pytest.param(job(BUILT_IN), id="the built-in handler needs no project"),
        pytest.param(job({**BUILT_IN, "dependencies": {"pip": ["pillow"]}}), id="a list of requirements is no file"),
        pytest.param(job({**INLINE, "project": {"image": "/app"}}), id="a project in the image"),
        pytest.param(job({**BUILT_IN, "models": {"dir": "/models"}}), id="models in the image or on a volume"),
        pytest.param(
            job(input={"files": {"paths": ["s3://bucket/in", "/data"]}}), id="input in a bucket and a volume"
        ),
        pytest.param(job(output={"path": "s3://bucket/out"}), id="output in a bucket"),
        pytest.param(job(output={"path": "/results/a"}, pod=mounted("/results")), id="output on a volume"),
        pytest.param(job(output={"path": "/results"}, pod=mounted("/results/")), id="output is the volume"),
        pytest.param(job(output={"path": "/results"}, pod=mounted("/")), id="output below the root"),
    ],
)
def test_what_a_cluster_can_do_has_no_problem(fine: BatchJob) -> None:
    assert problems(fine) == []


@pytest.mark.parametrize(
    ("wrong", "where", "found", "expected"),
    [
        pytest.param(
            job({"type": "python", "path": "handler.py"}),
            "spec.handler.project",
            "nothing beside path 'handler.py'",
            "project with inline, configMap, image or s3",
            id="a handler in the manifest's folder",
        ),
        pytest.param(
            job({**BUILT_IN, "dependencies": {"pip": "requirements.txt"}}),
            "spec.handler.dependencies.pip",
            "the file 'requirements.txt' and no project",
            "project with inline",
            id="a requirements file in the manifest's folder",
        ),
        pytest.param(
            job({**BUILT_IN, "dependencies": {"shell": "setup.sh"}}),
            "spec.handler.dependencies.shell",
            "the file 'setup.sh'",
            "project with inline",
            id="a script in the manifest's folder",
        ),
        pytest.param(
            job({**BUILT_IN, "models": {"path": "models/digits"}}),
            "spec.handler.models.path",
            "'models/digits'",
            "an absolute path inside the pods or an s3:// URL",
            id="a model in the manifest's folder",
        ),
        pytest.param(
            job({**BUILT_IN, "models": {"paths": [{"name": "a", "path": "s3://b/a"}, {"name": "b", "path": "b"}]}}),
            "spec.handler.models.paths[1].path",
            "'b'",
            "an absolute path",
            id="one of several models",
        ),
        pytest.param(
            job({**BUILT_IN, "models": {"dir": "~/models"}}),
            "spec.handler.models.dir",
            "'~/models'",
            "an absolute path",
            id="a home folder",
        ),
        pytest.param(
            job(input={"delimitedFiles": {"paths": ["s3://b/x", "items.jsonl"]}}),
            "spec.input.delimitedFiles.paths[1]",
            "'items.jsonl'",
            "an absolute path",
            id="an input file",
        ),
        pytest.param(
            job(output={"path": "results"}),
            "spec.output.path",
            "'results'",
            "an absolute path",
            id="a relative output",
        ),
        pytest.param(
            job(output={"path": "/results"}),
            "spec.output.path",
            "'/results', which lies on no volume of spec.pod.volumeMounts",
            "an s3:// URL or a path below one of its mountPaths",
            id="an output that dies with its pod",
        ),
        pytest.param(
            job(output={"path": "/results-2"}, pod=mounted("/results")),
            "spec.output.path",
            "'/results-2', which lies on no volume",
            "an s3:// URL",
            id="an output beside the volume",
        ),
        pytest.param(
            job(storage={"work": "/work"}),
            "spec.storage.work",
            "'/work', which lies",
            "an s3:// URL",
            id="large batches",
        ),
    ],
)
def test_each_problem_is_one_sentence(wrong: BatchJob, where: str, found: str, expected: str) -> None:
    (sentence,) = problems(wrong)
    assert sentence.startswith(f"{where}: found {found}")
    assert f"expected {expected}" in sentence
    assert sentence.count(": found ") == 1


def test_everything_wrong_is_said_at_once() -> None:
    wrong = job(
        {"type": "tensorflow", "path": "h.py", "models": {"path": "m"}},
        input={"files": {"paths": ["in"]}},
        output={"path": "out"},
    )
    assert len(problems(wrong)) == 4
