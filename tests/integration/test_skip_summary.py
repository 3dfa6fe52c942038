"""The end of a test run tells what did not run: real runs of pytest over a small folder."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = e2e: needs a cluster\n")
    conftest = f"import sys\nsys.path.append({str(TESTS)!r})\n"
    conftest += "from skip_summary import pytest_deselected, pytest_terminal_summary\n"
    (tmp_path / "conftest.py").write_text(conftest)
    return tmp_path


def run(folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return done.stdout.splitlines()


def test_skips_are_counted_by_reason_before_the_closing_line(folder: Path) -> None:
    (folder / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_one(n): pytest.skip('no engine: make engine')\n"
        "@pytest.mark.skipif(True, reason='no wings: grow some')\n"
        "def test_two(): pass\n"
        "def test_three(): pass\n"
    )
    (folder / "test_whole.py").write_text("import pytest\npytest.skip('no sea: dig', allow_module_level=True)\n")
    lines = run(folder)
    start = next(i for i, line in enumerate(lines) if "not run: 4 tests and 1 whole file" in line)
    assert [line.strip() for line in lines[start + 1 : start + 4]] == [
        "3 tests  no engine: make engine",
        "1 test  no wings: grow some",
        "1 file  no sea: dig",
    ]
    assert lines[-1].startswith("1 passed, 5 skipped")


def test_end_to_end_tests_that_the_marker_left_out_are_counted(folder: Path) -> None:
    text = "import pytest\n@pytest.mark.e2e\ndef test_far(): pass\ndef test_near(): pass\n"
    (folder / "test_some.py").write_text(text)
    lines = run(folder, "-m", "not e2e")
    assert any("not run: 1 test" in line for line in lines)
    assert any("make cluster-up e2e" in line for line in lines)


def test_nothing_is_said_when_everything_ran(folder: Path) -> None:
    (folder / "test_some.py").write_text("def test_near(): pass\n")
    assert not any("not run" in line for line in run(folder))
