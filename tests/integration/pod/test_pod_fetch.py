"""The fetch container: from the operator's file to a pod whose worker and model server can start."""

import os
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pod_harness import HANDLER, MakeJob, inline, results, wait_until


def spec(**more: Any) -> dict[str, Any]:
    return {"handler": inline(), "input": {"items": [1, 2, 3, 4, 5], "batchSize": 2}, **more}


def on_a_volume(folder: Path) -> dict[str, Any]:
    """Return a ``spec.pod`` that mounts a volume at ``folder``."""
    return {
        "volumes": [{"name": "data", "emptyDir": {}}],
        "volumeMounts": [{"name": "data", "mountPath": str(folder)}],
    }


def test_an_inline_job_runs_from_its_file_to_its_last_batch(make_job: MakeJob, tmp_path: Path) -> None:
    output = tmp_path / "volume" / "out"
    job = make_job(spec(output={"path": str(output)}, pod=on_a_volume(tmp_path / "volume")))
    pod = job.pod(0)
    assert pod.fetch().wait().code == 0
    assert job.state.total == 3
    assert pod.worker().wait().code == 0
    assert job.state.is_over
    assert job.state.counts.succeeded == 3
    assert results(output) == [2, 4, 6, 8, 10]
    assert (output / "manifest.json").exists()


def test_only_the_first_worker_publishes(make_job: MakeJob) -> None:
    job = make_job(spec())
    assert job.pod(1).fetch().wait().code == 0
    assert job.state.counts.published == 0
    assert job.pod(0).fetch().wait().code == 0
    assert job.state.counts.published == 3


def test_two_first_workers_at_once_publish_each_batch_once(make_job: MakeJob) -> None:
    job = make_job({"handler": inline(), "input": {"items": list(range(3000))}})
    racing = [job.pod(0).fetch(), job.pod(0).fetch(), job.pod(1).fetch()]
    assert [container.wait().code for container in racing] == [0, 0, 0]
    assert job.state.total == 3000
    assert job.state.items == 3000


def test_the_worker_is_told_what_the_operator_said(make_job: MakeJob) -> None:
    job = make_job(spec(handler=inline(env=[{"name": "COLOUR", "value": "$(BASE)/red"}]), batchTimeout="90s"))
    pod = job.pod(1, drain=7.0)
    assert pod.fetch().wait().code == 0
    settings = pod.settings
    told = {name: settings[name] for name in ("worker", "job_id", "queue", "drain", "lease", "batch_timeout")}
    assert told == {
        "worker": pod.name,
        "job_id": job.id,
        "queue": job.url,
        "drain": 7.0,
        "lease": 2.0,
        "batch_timeout": 90.0,
    }
    assert settings["handler"]["env"] == {}  # the container has them, with $(BASE) put in


def test_what_is_fetched_is_writable_by_the_group_of_the_pod(make_job: MakeJob) -> None:
    pod = make_job(spec()).pod(0)
    assert pod.fetch().wait().code == 0
    for path in (pod.mnt / ".batchyard", pod.mnt / "project", pod.mnt / ".batchyard" / "worker.json"):
        assert path.stat().st_mode & stat.S_IWGRP, path


def test_the_keys_of_a_config_map_become_the_project(make_job: MakeJob) -> None:
    handler = {"type": "python", "path": "handler.py", "project": {"configMap": "code"}}
    pod = make_job(spec(handler=handler)).pod(0)
    mounted = pod.root / "etc" / "batchyard" / "project"  # as the kubelet lays a ConfigMap out
    (mounted / "..2025_01_01").mkdir(parents=True)
    (mounted / "..data").symlink_to("..2025_01_01")
    for name, text in (("handler.py", HANDLER.replace("\n    ", "\n")), (".env", "A=1\n")):
        (mounted / "..2025_01_01" / name).write_text(text)
        (mounted / name).symlink_to(f"..data/{name}")
    assert pod.fetch().wait().code == 0
    assert sorted(path.name for path in (pod.mnt / "project").iterdir()) == [".env", "handler.py"]
    shutil.rmtree(mounted)
    assert pod.worker().wait().code == 0


def test_a_project_of_the_image_is_used_where_it_is(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "handler.py").write_text(HANDLER.replace("\n    ", "\n"))
    handler = {"type": "python", "path": "handler.py", "project": {"image": str(tmp_path / "app")}}
    pod = make_job(spec(handler=handler)).pod(0)
    assert pod.fetch().wait().code == 0
    assert pod.settings["handler"]["project"] == str(tmp_path / "app")
    assert pod.worker().wait().code == 0


def test_dependencies_are_installed_for_the_worker(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    info = "greeting-1.0.dist-info"
    with zipfile.ZipFile(app / "greeting-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", "WORD = 'hello'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (app / "setup.sh").write_text("cp template.txt handler.py\n")  # a script may make the handler's file
    (app / "template.txt").write_text(
        "import greeting\nclass Handler:\n    def __init__(self, config): pass\n"
        "    def handle_batch(self, payload): return [greeting.WORD for _ in payload]\n"
    )
    handler = {
        "type": "python",
        "path": "handler.py",
        "project": {"image": str(app)},
        "dependencies": {"pip": ["./greeting-1.0-py3-none-any.whl"], "shell": "setup.sh"},
    }
    job = make_job(spec(handler=handler))
    pod = job.pod(0)
    assert pod.fetch().wait().code == 0
    assert pod.worker().wait().code == 0
    assert job.state.counts.succeeded == 3


def test_a_job_that_is_over_fetches_nothing_and_its_worker_leaves(make_job: MakeJob, tmp_path: Path) -> None:
    handler = {"type": "tensorflow", "models": {"path": str(tmp_path / "not-there")}}
    job = make_job(spec(handler=handler))
    job.queue.halt("Cancelled", "by the user")
    pod = job.pod(0)
    assert pod.fetch().wait().code == 0
    pod.serving()
    assert pod.worker().wait().code == 0
    assert job.state.counts.published == 0
    assert job.halt == ("Cancelled", "by the user")


@pytest.mark.parametrize(
    ("changed", "reason", "said"),
    [
        pytest.param(
            {"handler": {"type": "python", "path": "handlr.py", "project": {"configMap": "code"}}},
            "HandlerInvalid",
            "Did you mean 'handler.py'?",
            id="handler",
        ),
        pytest.param(
            {"handler": {"type": "python", "path": "handler.py", "project": {"image": "/not/there"}}},
            "HandlerInvalid",
            "spec.handler.project.image: found nothing of that name",
            id="project of the image",
        ),
        pytest.param(
            {"handler": {"type": "tensorflow", "models": {"path": "/not/there/iris"}}},
            "ModelInvalid",
            "there is no folder /not/there/iris",
            id="model",
        ),
        pytest.param({"output": {"path": "/proc/version/out"}}, "OutputInvalid", "/proc/version", id="output"),
        pytest.param({"output": {"path": "out"}}, "ManifestInvalid", "spec.output.path", id="relative output"),
        pytest.param({"input": {"items": []}}, "InputInvalid", "found no items", id="input"),
        pytest.param(
            {"handler": inline(dependencies={"shell": "setup.sh"})},
            "HandlerInvalid",
            "setup.sh does not exist",
            id="dependencies",
        ),
    ],
)
def test_what_the_user_did_wrong_halts_the_job_with_its_reason(
    make_job: MakeJob, changed: dict[str, Any], reason: str, said: str
) -> None:
    mounts = {"volumeMounts": [{"name": "proc", "mountPath": "/proc"}]}
    job = make_job(spec(**{"pod": mounts, **changed}))
    pod = job.pod(0)
    code = pod.root / "etc" / "batchyard" / "project"
    code.mkdir()
    (code / "handler.py").write_text("")
    ended = pod.fetch().wait()
    assert ended.code == 64
    assert job.halt[0] == reason
    assert said in job.halt[1]
    assert ended.word == job.halt[1]
    assert ended.last_line == job.halt[1].replace("\n", " ")


def test_a_lost_queue_ends_the_container_with_1(make_job: MakeJob) -> None:
    job = make_job(spec())
    pod = job.pod(0)
    job.queue.delete(job.url)
    ended = pod.fetch().wait()
    assert ended.code == 1
    assert "queue" in ended.word


def test_sigterm_ends_the_container_and_what_it_runs(make_job: MakeJob) -> None:
    files = {"handler.py": "", "setup.sh": "echo $$ > pid; sleep 600\n"}
    handler = {
        "type": "python",
        "path": "handler.py",
        "project": {"inline": files},
        "dependencies": {"shell": "setup.sh"},
    }
    pod = make_job(spec(handler=handler)).pod(1)
    container = pod.fetch()
    written = pod.mnt / "project" / "pid"
    wait_until(lambda: written.exists() and written.read_text().endswith("\n"), "the script")
    container.terminate()
    assert container.wait().code == 143
    script = Path(f"/proc/{written.read_text().strip()}")
    wait_until(lambda: not script.exists() or "Z" in (script / "stat").read_text().split()[2], "the script's end")
    assert not (pod.mnt / ".batchyard" / "worker.json").exists()


def test_a_container_killed_again_and_again_gets_there_in_the_end(make_job: MakeJob, tmp_path: Path) -> None:
    output = tmp_path / "volume" / "out"
    items = list(range(2000))
    job = make_job(
        {
            "handler": inline(),
            "input": {"items": items},
            "output": {"path": str(output)},
            "pod": on_a_volume(tmp_path / "volume"),
        }
    )
    pod = job.pod(0)
    moments = (
        (pod.mnt / ".batchyard").exists,
        (pod.mnt / "project").exists,
        (output / ".batchyard.json").exists,
        lambda: job.state.counts.published > 0,
        lambda: job.state.sealed,
    )
    for moment in moments:
        container = pod.fetch()
        wait_until(lambda m=moment, c=container: m() or c.process.poll() is not None, "the moment")  # type: ignore[misc]  # mypy does not infer a lambda with a default
        container.kill()
    assert pod.fetch().wait().code == 0
    assert (job.state.total, job.state.items) == (2000, 2000)
    assert pod.worker().wait().code == 0
    assert results(output) == [item * 2 for item in items]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere: run the tests as another user")
def test_a_volume_that_is_not_writable_is_said_and_not_blamed_on_the_job(make_job: MakeJob) -> None:
    job = make_job(spec())
    pod = job.pod(0)
    pod.mnt.chmod(0o555)
    ended = pod.fetch().wait()
    assert ended.code == 1
    assert "/mnt" in ended.word
    assert job.state.halt is None
