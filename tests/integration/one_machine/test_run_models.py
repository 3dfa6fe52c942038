"""Jobs with models: the server beside the workers, its death, its refusals, and another server in its place."""

import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]

PREDICTING = """
    import time
    class Handler:
        def __init__(self, tensorflow_client, config):
            self.client, self.seconds = tensorflow_client, config.get("seconds", 0)
        def handle_batch(self, payload):
            time.sleep(self.seconds)
            y = self.client.predict({"x": [[item, 0.0, 0.0] for item in payload]})["y"]
            with open("finished", "a") as f: f.write(f"{payload[0]}\\n")
            return [float(row[0]) for row in y]
"""


def spec(savedmodels, model="half_plus", **config):
    return {
        "handler": {
            "type": "tensorflow",
            "path": "handler.py",
            "config": config,
            "models": {"path": str(savedmodels / model)},
        }
    }


def test_a_model_serves_every_worker_of_a_job(job, savedmodels):
    told = job.write(PREDICTING, **spec(savedmodels), workers=2).run_json()
    assert told["exitCode"] == 0, told
    assert job.children("batchyard.serving") == []


def test_a_model_that_cannot_be_loaded_fails_the_job_before_a_batch_is_taken(job, savedmodels):
    told = job.write(PREDICTING, **spec(savedmodels, "corrupt")).run_json()
    assert (told["exitCode"], told["reason"]) == (1, "ModelInvalid")
    assert "corrupt" in told["message"]
    assert told["batches"]["succeeded"] == told["batches"]["failed"] == 0
    assert job.lines("finished") == []


def test_a_folder_that_is_no_model_is_refused_before_anything_starts(job, savedmodels):
    ran = job.write(PREDICTING, **spec(savedmodels, "half_minus")).run()
    assert ran.code == 2
    assert "half_plus" in ran.err, "the nearest name is not told"


def test_a_killed_model_server_is_started_again_and_no_attempt_is_lost(job, savedmodels, until, finish, kill_hard):
    job.write(PREDICTING, **spec(savedmodels, seconds=0.3), retry={"maxAttempts": 1})
    process = job.start("--json")
    until(lambda: job.lines("finished"), process)
    for server in job.children("batchyard.serving"):
        kill_hard(server.pid)
    ran = finish(process)
    assert ran.code == 0, ran.out
    assert ran.json["batches"]["succeeded"] == 5


@pytest.mark.parametrize("by", ["option", "variable", "PATH"])
def test_a_tensorflow_model_server_is_used_where_there_is_one(job, savedmodels, monkeypatch, by):
    program = job.folder / "bin" / "tensorflow_model_server"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "TensorFlow ModelServer: 2.18.0-rc1"; exit; fi\n'
        f'echo "$@" > {job.folder}/flags\n'
        f'exec {sys.executable} -m batchyard.serving.server "$@"\n'
    )
    program.chmod(0o755)
    if by == "PATH":
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    if by == "variable":
        monkeypatch.setenv("BATCHYARD_MODEL_SERVER", str(program))
    options = ["--model-server", program] if by == "option" else []
    told = job.write(PREDICTING, **spec(savedmodels)).run_json(*options)
    assert told["exitCode"] == 0, told
    flags = job.lines("flags")
    assert "--port=0" in flags, "2.18 can turn TCP off"
    assert any(flag.startswith("--grpc_socket_path=") for flag in flags)


def test_a_model_server_that_is_no_program_is_refused(job, savedmodels):
    ran = job.write(PREDICTING, **spec(savedmodels)).run("--model-server", "tensorflow_model_sever")
    assert ran.code == 2
    assert "--model-server: found 'tensorflow_model_sever'" in ran.err


def test_a_state_folder_too_deep_for_a_socket_still_serves(job, savedmodels):
    deep = job.folder / ("d" * 60) / ("e" * 60)
    assert job.write(PREDICTING, **spec(savedmodels)).run("--state-dir", deep).code == 0


def test_a_dry_run_loads_the_models_and_constructs_the_handler(job, savedmodels):
    ran = job.write(PREDICTING, **spec(savedmodels)).run("--dry-run")
    assert ran.code == 0, ran.out + ran.err
    assert "loaded: half_plus (versions 1, 2, 10)" in ran.out
    assert "handler   ok: handler.py" in ran.out
    assert job.lines("finished") == []
    assert not Path(job.state_folder).exists()


def test_a_dry_run_tells_a_model_that_cannot_be_loaded(job, savedmodels):
    ran = job.write(PREDICTING, **spec(savedmodels, "corrupt")).run("--dry-run")
    assert ran.code == 1
    assert "corrupt" in ran.out
