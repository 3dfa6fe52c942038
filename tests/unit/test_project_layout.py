"""What must stay true of the tree as a whole."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listing.decode().split("\0") if name and (ROOT / name).is_file()]


def test_the_path_roots_hold_no_loose_modules_that_could_shadow_the_standard_library() -> None:
    for root in (ROOT / "worker", ROOT / "operator"):
        if root.exists():
            assert not list(root.glob("*.py"))
            shadows = {path.name for path in root.iterdir()} & sys.stdlib_module_names
            assert not shadows


def test_the_standard_operator_module_is_found_from_the_root() -> None:
    code = "import collections, operator; print(operator.__file__)"
    found = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).parent != ROOT / "operator"


def test_no_package_marker_stands_below_tests() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_lock_and_build_files_hold_no_addresses() -> None:
    locks = [path for path in tracked() if path.name in {"constraints.txt", "pyproject.toml", "Makefile", "run"}]
    assert locks
    assert not [path.name for path in locks if "://" in path.read_text()]


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        pytest.param(
            "batchyard.worker.__main__", {"tensorflow", "botocore", "grpc", "numpy", "rich", "click"}, id="worker"
        ),
        pytest.param(
            "batchyard.worker.child", {"tensorflow", "botocore", "grpc", "numpy", "pydantic"}, id="handler process"
        ),
        pytest.param("batchyard.serving.client", {"tensorflow", "botocore", "pydantic"}, id="tensorflow_client"),
        pytest.param(
            "batchyard.enqueue.__main__", {"tensorflow", "botocore", "grpc", "numpy", "rich"}, id="enqueuer"
        ),
        pytest.param("batchyard.cli.main", {"tensorflow", "botocore", "grpc", "numpy"}, id="command"),
    ],
)
def test_a_process_does_not_load_what_it_does_not_need(module: str, forbidden: set[str]) -> None:
    code = f"import sys, json, {module}; print(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(re.findall(r'"([^"]+)"', run.stdout))
    assert "batchyard" in loaded
    assert not loaded & forbidden


def test_the_s3_client_is_loaded_by_an_s3_url_alone(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "a.jsonl").write_text("1\n")
    code = f"""
import sys
from pathlib import Path
from batchyard.api.spec import Models
from batchyard.enqueue.count import count
from batchyard.enqueue.settings import EnqueueSettings, InputSettings
from batchyard.models.fetch import ready_models
from batchyard.storage.door import open_folder
from batchyard.storage.port import StoreOptions
here = Path({str(tmp_path)!r})
given = InputSettings(kind="delimitedFiles", paths=["a.jsonl"])
assert count(EnqueueSettings(input=given, folder=here)).items == 1
ready_models(Models(path="m"), folder=here, links=here / "l", downloads=here / "d", options=StoreOptions())
print("botocore" in sys.modules)
open_folder("s3://bucket", StoreOptions(region="r"))
print("botocore" in sys.modules)
"""
    asks_nobody = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=asks_nobody)
    assert run.stdout.split() == ["False", "True"]


def test_every_module_stands_in_the_architecture_page_with_its_first_line() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "modules.py"))["written"]
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert written(page) == page, "make docs writes the page anew"
