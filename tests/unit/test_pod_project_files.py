"""A project's folder from the manifest's files, and from a mounted ConfigMap."""

from pathlib import Path

import pytest
from batchyard.projects.files import ProjectInvalid, copy_config_map, write_inline


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_the_manifests_files_and_no_earlier_ones(tmp_path: Path) -> None:
    write_inline({"handler.py": "a", "lib": "b"}, tmp_path / "project")
    (tmp_path / "project.new").mkdir()  # the rest of a start that was cut short
    (tmp_path / "project.new" / "half").write_text("")
    write_inline({"handler.py": "c", "lib/x.py": "d"}, tmp_path / "project")
    assert files(tmp_path / "project") == {"handler.py": "c", "lib/x.py": "d"}
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_a_name_that_is_a_file_and_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectInvalid, match="which is then a file and a folder"):
        write_inline({"lib": "b", "lib/x.py": "d"}, tmp_path / "project")


def test_the_keys_of_a_config_map_are_copied_and_its_links_are_not(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    (mounted / "..2025").mkdir(parents=True)
    (mounted / "..data").symlink_to("..2025")
    for key in ("handler.py", ".env"):
        (mounted / "..2025" / key).write_text(key)
        (mounted / key).symlink_to(f"..data/{key}")
    copy_config_map(mounted, tmp_path / "project", "code")
    assert files(tmp_path / "project") == {"handler.py": "handler.py", ".env": ".env"}
    assert not (tmp_path / "project" / "handler.py").is_symlink()


@pytest.mark.parametrize("is_mounted", [pytest.param(True, id="empty"), pytest.param(False, id="missing")])
def test_a_config_map_without_files_is_refused(tmp_path: Path, is_mounted: bool) -> None:
    if is_mounted:
        (tmp_path / "mounted").mkdir()
    with pytest.raises(ProjectInvalid, match="configMap: code holds no files"):
        copy_config_map(tmp_path / "mounted", tmp_path / "project", "code")
