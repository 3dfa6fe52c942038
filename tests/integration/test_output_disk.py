"""Output folders as disks make them: full, read-only, and full again with room made meanwhile."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from batchyard.output.parts import OutputInvalid, OutputUnavailable, Parts

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0,
        reason="mounts a small tmpfs: run as root on Linux",
    ),
]


def mount(path: Path, options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounts a small tmpfs, which this machine refuses: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    mount(tmp_path, "size=1m")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def fill_up(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def test_a_full_disk_is_told_and_leaves_the_earlier_part_whole(disk):
    parts = Parts(disk / "out")
    parts.write(0, b"old\n" * 100)
    ballast = fill_up(disk)
    with pytest.raises(OutputUnavailable, match=r"^output: .*: the disk is full: free space there\.$"):
        parts.write(0, b"new\n" * 50_000)
    part = disk / "out/parts/000000/part-000000000.jsonl"
    assert part.read_bytes() == b"old\n" * 100
    assert list((disk / "out/.partial").iterdir()) == []
    ballast.unlink()
    parts.write(0, b"new\n" * 50_000)
    assert part.read_bytes() == b"new\n" * 50_000


def test_a_full_disk_is_refused_before_the_run(disk):
    fill_up(disk)
    with pytest.raises(OutputInvalid, match="the disk is full"):
        Parts(disk).check_writable()


def test_a_read_only_folder_is_refused_before_the_run(tmp_path):
    mount(tmp_path, "ro")
    try:
        with pytest.raises(OutputInvalid, match="the file system is read-only: make it writable"):
            Parts(tmp_path / "out").check_writable()
        with pytest.raises(OutputUnavailable, match="read-only"):
            Parts(tmp_path / "out").write(0, b"1\n")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that every user can look into: pytest's own are for one user."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_a_folder_without_permission_is_refused_before_the_run(open_folder):
    script = (
        "import os, sys; from batchyard.output.parts import Parts; os.setgid(65534); os.setuid(65534)\n"
        "Parts(sys.argv[1]).check_writable()"
    )
    done = subprocess.run([sys.executable, "-c", script, open_folder / "out"], capture_output=True, text=True)
    assert "OutputInvalid: output.path: results cannot be written: " in done.stderr
    assert "permission is denied: let this user write there or choose another path." in done.stderr
