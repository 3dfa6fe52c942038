"""The reference is what the models say."""

import subprocess
import sys
from pathlib import Path

from batchyard.api.manifest import parse
from batchyard.api.reference import render
from batchyard.api.spec import Spec
from batchyard.api.strict import fields

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "batchjob.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


def test_the_page_names_every_field_of_the_spec_and_links_to_sections_that_exist() -> None:
    page = render()
    for alias in fields(Spec):
        assert f"| `{alias}` |" in page
    anchors = {
        "".join(c for c in line.lstrip("# ").lower() if c.isalnum() or c in "-_")
        for line in page.splitlines()
        if line.startswith("#")
    }
    links = {part.split(")")[0] for part in page.split("](#")[1:]}
    assert links
    assert links <= anchors


def test_the_example_of_the_page_is_a_manifest() -> None:
    assert parse(render().split("```")[1].removeprefix("yaml"), Path()).job.metadata.name == "digits"


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.md"
    subprocess.run([sys.executable, "-m", "batchyard.api.reference", str(out)], check=True)
    assert out.read_text(encoding="utf-8") == render()
