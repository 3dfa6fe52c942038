"""A manifest and options as a job that can run here, or why it cannot."""

import pytest
import yaml
from batchyard.api.errors import InvalidError
from batchyard.local.plan import Options, make_plan
from batchyard.local.settings import enqueue_settings, worker_settings


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "handler.py").write_text("")

    def write(**spec):
        default = {"handler": {"type": "python", "path": "handler.py"}, "input": {"items": [1], "batchSize": 1}}
        document = {
            "apiVersion": "batchyard.dev/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": "job"},
            "spec": default | spec,
        }
        (tmp_path / "batchjob.yaml").write_text(yaml.safe_dump(document))
        return tmp_path / "batchjob.yaml"

    return write


def worker_of(plan):
    return worker_settings(
        plan, "worker-0", job_id="id", start_time=1.5, queue="sqlite:q", serving=None, extra_paths=[plan.folder]
    )


def test_paths_are_relative_to_the_manifest(manifest, tmp_path):
    plan = make_plan(Options(manifest(output={"path": "out"})))
    assert plan.folder == plan.project == tmp_path
    assert plan.output == str(tmp_path / "out")
    assert plan.state == tmp_path / ".batchyard" / "job"


def test_what_a_worker_is_told_is_what_the_manifest_says(manifest, tmp_path):
    spec = {
        "handler": {
            "type": "python",
            "path": "handler.py",
            "config": {"a": [1]},
            "env": [{"name": "A", "value": "b"}, {"name": "EMPTY"}],
            "processes": 2,
            "threads": 3,
            "logLevel": "debug",
        },
        "retry": {"maxAttempts": 7, "backoff": {"initial": "2s", "max": "1m"}},
        "errorThreshold": {"percent": 5},
        "batchTimeout": "1m30s",
        "workers": 4,
        "output": {"path": "out", "key": "id"},
    }
    told = worker_of(make_plan(Options(manifest(**spec))))
    assert told.handler.config == {"a": [1]}
    assert told.handler.env == {"A": "b", "EMPTY": ""}
    assert told.handler.log_level == "DEBUG"
    assert told.handler.extra_paths == [tmp_path]
    assert (told.processes, told.threads, told.workers) == (2, 3, 4)
    assert (told.retry.max_attempts, told.retry.backoff_initial, told.retry.backoff_max) == (7, 2.0, 60.0)
    assert (told.threshold.batches, told.threshold.percent) == (None, 5)
    assert told.batch_timeout == 90.0
    assert told.output is not None
    assert (told.output.path, told.output.key) == (str(tmp_path / "out"), "id")


def test_a_malformed_line_is_tolerated_where_there_is_a_threshold(manifest):
    assert not enqueue_settings(make_plan(Options(manifest())), "q").tolerate_malformed
    tolerant = make_plan(Options(manifest(errorThreshold={"batches": 1})))
    assert enqueue_settings(tolerant, "q").tolerate_malformed


def test_options_win_over_set_and_set_over_the_manifest(manifest, tmp_path):
    path = manifest(workers=2, output={"path": "out"})
    assert make_plan(Options(path, sets=("workers=3",))).job.spec.workers == 3
    assert make_plan(Options(path, sets=("workers=3",), workers=4)).job.spec.workers == 4
    assert make_plan(Options(path, output=str(tmp_path / "there"))).output == str(tmp_path / "there")
    assert make_plan(Options(path, output="s3://bucket/there/")).output == "s3://bucket/there"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"output": {"path": "gs://b/out"}}, "spec.output.path: found 'gs://b/out'", id="output"),
        pytest.param(
            {"handler": {"type": "python", "path": "handler.py", "project": {"image": "/app"}}},
            "spec.handler.project.image",
            id="project",
        ),
        pytest.param({"handler": {"type": "python", "path": "nope.py"}}, "nope.py", id="no such handler"),
        pytest.param({"output": {"path": "handler.py"}}, "is a file, expected a folder", id="output is a file"),
        pytest.param({"output": {"path": ".batchyard/job"}}, "the job's own folder", id="output is the state"),
    ],
)
def test_what_cannot_run_here_is_refused_by_field(manifest, spec, words):
    with pytest.raises(InvalidError) as refused:
        make_plan(Options(manifest(**spec)))
    assert words in str(refused.value)


def test_fields_of_a_cluster_make_one_note_and_variables_without_a_value_another(manifest):
    handler = {
        "type": "python",
        "path": "handler.py",
        "image": "registry.example/handler:1",
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    }
    notes = make_plan(Options(manifest(handler=handler, suspend=True))).notes
    assert len(notes) == 2
    assert "spec.handler.image, spec.suspend" in notes[0]
    assert "KEY" in notes[1]
    assert make_plan(Options(manifest())).notes == []


def test_a_resumed_run_must_share_input_and_output_alone(manifest):
    first = make_plan(Options(manifest(workers=1))).fixed()
    assert make_plan(Options(manifest(workers=9, retry={"maxAttempts": 9}))).fixed() == first
    assert make_plan(Options(manifest(input={"items": [2], "batchSize": 1}))).fixed() != first
    assert make_plan(Options(manifest(output={"path": "o"}))).fixed() != first
