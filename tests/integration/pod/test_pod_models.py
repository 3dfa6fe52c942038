"""Models in a pod: what the fetch container lays out is what our model server loads and the worker calls."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from pod_harness import Job, MakeJob, inline, results, wait_until

PREDICTING = """
    class Handler:
        def __init__(self, tensorflow_client, config):
            self.client = tensorflow_client
        def handle_batch(self, payload):
            return [float(self.client.predict({"x": [[item] * 3]}, "half_plus")["y"][0][0]) for item in payload]
"""


def spec(models: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "handler": inline(PREDICTING, type="tensorflow", models=models),
        "input": {"items": [2, 4, 6], "batchSize": 2},
        **more,
    }


def run(job: Job) -> None:
    """Run the job in one pod, with its model server beside the worker."""
    pod = job.pod(0)
    assert pod.fetch().wait().code == 0
    pod.serving()
    ended = pod.worker().wait()
    assert ended.code == 0, ended.out


@pytest.fixture
def image(savedmodels: Path, tmp_path: Path) -> Path:
    """A folder of models as the handler's image would have it, which no other container sees."""
    for name in ("half_plus", "constants"):
        shutil.copytree(savedmodels / name, tmp_path / "image" / name)
    for path in (tmp_path / "image").rglob("saved_model.pb"):
        path.chmod(0o600)
    return tmp_path / "image"


def test_a_model_of_the_handlers_image_is_copied_for_the_server(
    make_job: MakeJob, image: Path, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    mounts = {"volumeMounts": [{"name": "data", "mountPath": str(volume)}]}
    job = make_job(spec({"path": str(image / "half_plus")}, output={"path": str(volume / "out")}, pod=mounts))
    run(job)
    assert results(volume / "out") == [11.0, 12.0, 13.0]  # of version 10
    copied = job.pods[0].mnt / "models" / "half_plus"
    assert sorted(path.name for path in copied.iterdir()) == ["1", "10", "2"]
    assert (copied / "1" / "saved_model.pb").stat().st_mode & 0o044 == 0o044  # the server may be another user


def test_a_model_on_a_volume_of_the_job_is_served_from_there(make_job: MakeJob, image: Path) -> None:
    mounts = {"volumeMounts": [{"name": "models", "mountPath": str(image)}]}
    job = make_job(spec({"dir": str(image)}, pod=mounts))
    run(job)
    assert not list((job.pods[0].mnt / "models").iterdir())
    assert job.state.counts.succeeded == 2


def test_a_volume_that_links_into_the_image_is_copied_from(make_job: MakeJob, image: Path, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "half_plus").symlink_to(image / "half_plus")
    mounts = {"volumeMounts": [{"name": "models", "mountPath": str(tmp_path / "volume")}]}
    job = make_job(spec({"path": str(tmp_path / "volume" / "half_plus")}, pod=mounts))
    run(job)
    assert (job.pods[0].mnt / "models" / "half_plus" / "10").is_dir()


def test_a_copy_that_was_cut_is_made_again(make_job: MakeJob, image: Path) -> None:
    with (image / "half_plus" / "1" / "saved_model.pb").open("ab") as file:
        file.truncate(200 << 20)  # long enough to be met in the middle
    job = make_job(spec({"paths": [{"name": "half_plus", "path": str(image / "half_plus")}]}))
    pod = job.pod(1)
    container = pod.fetch()
    begun = pod.mnt / "models" / ".copying-half_plus"
    wait_until(lambda: begun.exists() or container.process.poll() is not None, "the copy")
    container.kill()
    assert not (pod.mnt / ".batchyard" / "worker.json").exists()
    assert pod.fetch().wait().code == 0
    assert not begun.exists()
    copied = pod.mnt / "models" / "half_plus" / "1" / "saved_model.pb"
    assert copied.stat().st_size == 200 << 20


def test_too_little_space_is_said_before_the_first_byte(make_job: MakeJob, image: Path) -> None:
    with (image / "half_plus" / "1" / "saved_model.pb").open("ab") as file:
        file.truncate(shutil.disk_usage(image).total * 2)  # a hole: it takes no space here
    job = make_job(spec({"path": str(image / "half_plus")}))
    pod = job.pod(1)
    ended = pod.fetch().wait()
    assert ended.code == 1
    assert "MiB free, the models (half_plus) need" in ended.word
    assert not list((pod.mnt / "models").iterdir())
    assert job.state.halt is None  # another node may have the space


def test_the_servers_config_names_what_is_below_the_pods_root(make_job: MakeJob, image: Path) -> None:
    job = make_job(spec({"paths": [{"name": "third", "path": str(image / "constants"), "signatureKey": "serve"}]}))
    pod = job.pod(1)
    assert pod.fetch().wait().code == 0
    config = (pod.mnt / ".batchyard" / "models.config").read_text()
    assert f'base_path: "{pod.mnt}/models/third"' in config
    serving = pod.settings["serving"]
    assert serving["target"] == f"unix:{pod.mnt}/.batchyard/serving.sock"
    assert serving["models"] == [{"name": "third", "versions": [1], "signature_key": "serve"}]
    assert [path.name for path in (pod.mnt / "models" / "third").iterdir()] == ["1"]
