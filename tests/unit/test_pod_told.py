"""What a container is told, and which paths its pod's other containers have too."""

import json
from pathlib import Path
from typing import Any

import pytest
from batchyard.pod.places import Places
from batchyard.pod.told import NotTold, Told, read


def told(root: Path, environment: dict[str, str] | None = None, **spec: Any) -> Told:
    """Write an operator's file below ``root`` and read it."""
    job = {
        "apiVersion": "batchyard.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": "job", "namespace": "team", "uid": "u", "resourceVersion": "7", "managedFields": []},
        "spec": {"handler": {"type": "python", "path": "handler.py"}, "input": {"items": [1]}, **spec},
    }
    file = root / "etc" / "batchyard" / "job.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"job": job, "job_id": "u", "queue": "nats://host/bj-u", "start_time": 1.0}))
    return read(Places(root), environment or {})


def test_the_file_and_the_environment_are_read(tmp_path: Path) -> None:
    found = told(tmp_path, {"BATCHYARD_POD": "job-workers-3-abc", "JOB_COMPLETION_INDEX": "3"})
    assert (found.pod, found.index, found.home) == ("job-workers-3-abc", 3, "team/job")
    assert found.file.drain == 55.0


def test_an_enqueuers_pod_has_no_index(tmp_path: Path) -> None:
    assert told(tmp_path).index is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param("{", "is not understood by this image's batchyard", id="not JSON"),
        pytest.param('{"job": {}, "job_id": "u", "queue": "q", "start_time": 1}', "apiVersion", id="no job"),
    ],
)
def test_a_file_that_is_no_use_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "etc" / "batchyard" / "job.json"
    file.parent.mkdir(parents=True)
    if text is not None:
        file.write_text(text)
    with pytest.raises(NotTold, match=said):
        read(Places(tmp_path), {})


@pytest.mark.parametrize(
    ("path", "is_shared"),
    [
        pytest.param("mnt/models/a", True, id="shared volume"),
        pytest.param("volume/a", True, id="volume of the job"),
        pytest.param("volume", True, id="the mount itself"),
        pytest.param("volume-2/a", False, id="beside a volume"),
        pytest.param("image/a", False, id="image"),
        pytest.param("volume/to-image", False, id="link into the image"),
        pytest.param("image/to-volume", True, id="link into a volume"),
    ],
)
def test_a_path_is_shared_where_a_volume_is(tmp_path: Path, path: str, is_shared: bool) -> None:
    for folder in ("mnt", "volume", "volume-2", "image/a"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "volume" / "to-image").symlink_to(tmp_path / "image")
    (tmp_path / "image" / "to-volume").symlink_to(tmp_path / "volume")
    found = told(tmp_path, pod={"volumeMounts": [{"name": "v", "mountPath": str(tmp_path / "volume")}]})
    assert found.is_shared(tmp_path / path) is is_shared
