"""Standing in the user's project: a process of its own, since it changes the whole process."""

import json
import subprocess
import sys

import pytest
from batchyard.handler import project as project_module
from batchyard.handler.errors import HandlerInvalid

PROGRAM = """
import json, os, sys
from pathlib import Path
from batchyard.handler import project
given = json.loads(sys.argv[1])
project.enter(Path(given["project"]), given["env"], [Path(p) for p in given["extra"]])
print(json.dumps({"cwd": os.getcwd(), "path": sys.path[:3], "env": {n: os.environ.get(n) for n in given["ask"]}}))
"""


def enter(folder, env=None, extra=(), ask=(), real=None):
    given = {"project": str(folder), "env": env or {}, "extra": [str(p) for p in extra], "ask": list(ask)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(given)], capture_output=True, text=True, env=real or {}, check=True
    )
    return json.loads(done.stdout)


def test_the_project_is_the_working_directory_and_comes_first_on_the_path_before_its_dependencies(tmp_path):
    seen = enter(tmp_path, extra=[tmp_path / "deps"])
    assert seen["cwd"] == str(tmp_path)
    assert seen["path"][:2] == [str(tmp_path), str(tmp_path / "deps")]


def test_the_manifest_wins_over_the_process_and_that_over_the_file(tmp_path):
    (tmp_path / ".env").write_text("A=file\nB=file\nexport C='file'\n# a comment\nD=${B}-more\nLONE\n")
    seen = enter(tmp_path, env={"A": "manifest"}, ask="ABCD", real={"A": "process", "B": "process"})
    assert seen["env"] == {"A": "manifest", "B": "process", "C": "file", "D": "process-more"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(b"A=1\nwhat is this\n", r"\.env, line 2: found 'what is this', expected NAME=value", id="no ="),
        pytest.param(b"A='open\n", r"\.env, line 1: found", id="open quote"),
        pytest.param(b"A=\xff\n", r"\.env cannot be read", id="not UTF-8"),
    ],
)
def test_a_line_that_is_no_variable_is_refused(tmp_path, text, said):
    (tmp_path / ".env").write_bytes(text)
    with pytest.raises(HandlerInvalid, match=said):
        project_module.read_dotenv(tmp_path)


def test_a_folder_called_env_is_a_virtual_environment_and_left_alone(tmp_path):
    (tmp_path / ".env").mkdir()
    assert project_module.read_dotenv(tmp_path) == {}


def test_a_missing_project_is_refused(tmp_path):
    with pytest.raises(HandlerInvalid, match="cannot be entered: No such file or directory"):
        project_module.enter(tmp_path / "none", {}, [])


def test_importing_the_package_brings_no_heavy_library():
    heavy = ["numpy", "pydantic", "grpc", "google.protobuf", "dotenv", "yaml"]
    program = (
        "import sys\nfrom batchyard.handler import builtin, contract, dependencies, load, project\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"
