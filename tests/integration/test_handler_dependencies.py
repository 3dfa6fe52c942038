"""Dependencies: real pip and real scripts, with packages made here, so that nothing is fetched."""

import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from batchyard.handler.dependencies import install
from batchyard.handler.errors import HandlerInvalid

pytestmark = pytest.mark.filterwarnings("default")  # pip's own


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project, where pip finds only what is in the folder wheels."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "project" / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (tmp_path / "project" / "wheels").mkdir(parents=True)
    return tmp_path / "project"


def make_wheel(project, name="tiny", version="1.0", requires=""):
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(project / "wheels" / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def run(project, pip=None, shell=None):
    lines = []
    paths = install(project, pip, shell, project.parent / "deps", lines.append)
    return paths, lines


def imported(paths, expression):
    program = f"import sys; sys.path[:0] = {[str(p) for p in paths]}; import tiny; print({expression})"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "pip",
    [
        pytest.param("requirements.txt", id="file"),
        pytest.param(["tiny"], id="list"),
        pytest.param(["./wheels/tiny-1.0-py3-none-any.whl"], id="path relative to the project"),
        pytest.param(["# comment", "tiny==1.0 ; python_version > '3'"], id="lines of a requirements file"),
    ],
)
def test_requirements_are_installed_into_a_folder_of_their_own(project, pip):
    make_wheel(project)
    (project / "requirements.txt").write_text("tiny\n")
    paths, lines = run(project, pip)
    assert imported(paths, "tiny.version") == "1.0"
    assert any("Successfully installed tiny-1.0" in line for line in lines)
    assert paths[0].parent == project.parent / "deps"


def test_installing_again_does_nothing_until_the_requirements_change(project):
    make_wheel(project)
    make_wheel(project, version="2.0")
    (project / "requirements.txt").write_text("tiny==1.0\n")
    first, _ = run(project, "requirements.txt")
    again, lines = run(project, "requirements.txt")
    assert (again, lines) == (first, [])
    (project / "requirements.txt").write_text("tiny==2.0\n")
    changed, _ = run(project, "requirements.txt")
    assert imported(changed, "tiny.version") == "2.0"
    assert imported(first, "tiny.version") == "1.0"  # a worker that still runs keeps its own


def test_a_change_of_an_included_file_or_a_local_package_installs_again(project):
    make_wheel(project)
    make_wheel(project, version="2.0")
    (project / "more.txt").write_text("tiny==1.0\n")
    (project / "requirements.txt").write_text("-r more.txt\n")
    first, _ = run(project, "requirements.txt")
    (project / "more.txt").write_text("tiny==2.0\n")
    second, _ = run(project, "requirements.txt")
    assert imported(second, "tiny.version") == "2.0"
    local = ["./wheels/tiny-1.0-py3-none-any.whl"]
    third, _ = run(project, local)
    make_wheel(project)
    os.utime(project / "wheels" / "tiny-1.0-py3-none-any.whl", (1, 1))
    fourth, _ = run(project, local)
    assert len({*first, *second, *third, *fourth}) == 4


def test_a_requirement_that_cannot_be_met_shows_the_end_of_pips_output(project):
    with pytest.raises(HandlerInvalid) as refusal:
        run(project, ["surely-not-there"])
    assert (
        refusal.value.sentence
        == "handler.dependencies.pip: pip install of the list of requirements ended with exit code 1."
    )
    assert "surely-not-there" in refusal.value.detail
    assert [p.name for p in (project.parent / "deps").iterdir() if p.is_dir()] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(
            {"pip": "requirement.txt"},
            "requirement.txt does not exist in .* Did you mean 'requirements.txt'",
            id="near",
        ),
        pytest.param({"pip": "zzz"}, "zzz does not exist in .* Found there: requirements.txt", id="not near"),
        pytest.param(
            {"shell": "setup.sh"}, "handler.dependencies.shell: the file setup.sh does not exist", id="script"
        ),
    ],
)
def test_a_missing_file_is_named(project, given, said):
    (project / "requirements.txt").write_text("")
    with pytest.raises(HandlerInvalid, match=said):
        run(project, **given)


def test_the_script_runs_once_in_the_project_before_pip(project):
    make_wheel(project)
    (project / "setup.sh").write_text('echo "in $PWD"\necho tiny > requirements.txt\necho run >> runs.txt\n')
    paths, lines = run(project, "requirements.txt", "setup.sh")
    assert lines[0] == f"in {project}"
    assert imported(paths, "tiny.version") == "1.0"
    run(project, "requirements.txt", "setup.sh")
    assert (project / "runs.txt").read_text() == "run\n"


def test_a_script_that_fails_is_refused_with_its_last_lines_and_runs_again(project):
    (project / "setup.sh").write_text("for i in $(seq 100); do echo line $i; done\necho broken >&2\nexit 3\n")
    for _ in range(2):
        with pytest.raises(HandlerInvalid) as refusal:
            run(project, shell="setup.sh")
        assert refusal.value.sentence == "handler.dependencies.shell: setup.sh ended with exit code 3."
        assert refusal.value.detail.splitlines()[-2:] == ["line 100", "broken"]
        assert len(refusal.value.detail.splitlines()) == 20


def test_nothing_to_install_touches_nothing(project):
    assert run(project) == ([], [])
    assert not (project.parent / "deps").exists()


PROGRAM = """
import sys
from pathlib import Path
from batchyard.handler.dependencies import install
install(Path(sys.argv[1]), ["tiny", "./slow"], None, Path(sys.argv[2]), lambda line: print(line, flush=True))
"""


def test_an_install_killed_in_the_middle_leaves_nothing_that_looks_whole(project):
    make_wheel(project)
    slow = project / "slow"
    slow.mkdir()
    (slow / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "slow"\nversion = "1"\n'
    )
    (slow / "backend.py").write_text(
        "from pathlib import Path\nimport time\nPath('started').touch()\ntime.sleep(600)\n"
    )
    deps = project.parent / "deps"
    killed = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(project), str(deps)], stdout=subprocess.PIPE, start_new_session=True
    )
    with killed:
        deadline = time.monotonic() + 60
        while not (slow / "started").exists():
            assert time.monotonic() < deadline, "pip did not reach the slow package"
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
    assert list(deps.glob("pip-*")) == []
    left = list(deps.glob(".installing-*"))
    assert len(left) == 1
    paths, _ = run(project, ["tiny"])
    assert imported(paths, "tiny.version") == "1.0"
    assert not left[0].exists()


def test_two_processes_that_install_at_once_install_once(project):
    make_wheel(project)
    outputs: list[list[str]] = [[], []]
    paths: list[list[Path]] = [[], []]

    def work(i):
        paths[i] = install(project, ["tiny"], None, project.parent / "deps", outputs[i].append)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths[0] == paths[1]
    assert sorted(bool(lines) for lines in outputs) == [False, True]
