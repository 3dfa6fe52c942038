"""The user's file: found below the project, imported, or refused with the user's own lines."""

import sys
import types

import pytest
from batchyard.handler import load
from batchyard.handler.errors import HandlerInvalid


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project on sys.path; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def put(project, path, text):
    file = project / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def refusal(project, path="handler.py"):
    with pytest.raises(HandlerInvalid) as caught:
        load.load_module(project, path)
    return caught.value


def test_the_module_is_known_by_its_name_and_imports_its_siblings(project):
    put(project, "shared.py", "value = 41")
    put(project, "handler.py", "import shared\nresult = shared.value + 1")
    module = load.load_module(project, "handler.py")
    assert module.result == 42
    assert sys.modules["handler"] is module
    assert module.__file__ == str(project / "handler.py")


def test_a_file_in_a_folder_is_known_by_its_dotted_name_and_takes_relative_imports(project):
    put(project, "sources/shared.py", "value = 41")
    put(project, "sources/handler.py", "from . import shared\nfrom sources.shared import value")
    module = load.load_module(project, "sources/handler.py")
    assert module.shared.value == 41
    assert sys.modules["sources.handler"] is module


def test_a_file_named_like_a_module_in_use_does_not_take_its_place(project):
    import queue  # before the project has a file of that name

    put(project, "queue.py", "value = 1")
    module = load.load_module(project, "queue.py")
    assert module.value == 1
    assert sys.modules["queue"] is queue


def test_a_folder_that_is_no_python_name_is_taken(project):
    put(project, "my-code/handler.py", "value = 1")
    assert load.load_module(project, "./my-code/handler.py").value == 1


def test_an_edit_within_the_same_second_is_seen(project):
    put(project, "handler.py", "value = 1")
    first = load.load_module(project, "handler.py")
    put(project, "handler.py", "value = 2")
    assert (first.value, load.load_module(project, "handler.py").value) == (1, 2)


def test_code_under_main_does_not_run(project):
    put(project, "handler.py", "import sys\nif __name__ == '__main__': sys.exit(1)")
    assert isinstance(load.load_module(project, "handler.py"), types.ModuleType)


def test_a_link_out_of_the_project_is_followed_as_in_a_mounted_configmap(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "data.py"
    elsewhere.write_text("value = 1")
    (project / "handler.py").symlink_to(elsewhere)
    assert load.load_module(project, "handler.py").value == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("handle.py", "does not exist in {project}. Did you mean 'handler.py'?", id="near name"),
        pytest.param("zzz.py", "Its Python files are: handler.py, sub/deep.py.", id="no near name"),
        pytest.param("deep.py", "Did you mean 'sub/deep.py'?", id="in another folder"),
        pytest.param("../handler.py", "lies outside the project folder {project}", id="above"),
        pytest.param("sub/../../x.py", "lies outside the project folder {project}", id="above by a detour"),
        pytest.param("/tmp/handler.py", "lies outside the project folder", id="absolute"),
        pytest.param("sub", "is a folder, expected a Python file", id="folder"),
        pytest.param("notes.txt", "is not a Python file (.py)", id="another kind of file"),
        pytest.param(" ", "handler.path is empty", id="empty"),
    ],
)
def test_a_path_that_is_no_file_of_the_project_is_refused(project, path, said):
    put(project, "handler.py", "")
    put(project, "sub/deep.py", "")
    put(project, ".venv/lib/hidden.py", "")
    put(project, "notes.txt", "")
    assert said.format(project=project) in str(refusal(project, path))


def test_a_project_without_python_files_says_so(project):
    assert f"There is no .py file in {project}." in str(refusal(project))


def test_an_error_at_import_names_the_line_and_keeps_only_the_users_frames(project):
    put(project, "shared.py", "def read():\n    return {}['a']")
    put(project, "handler.py", "import shared\n\ntable = shared.read()\n")
    error = refusal(project)
    assert error.sentence == "handler.py, line 3: importing it raised KeyError: 'a'."
    assert error.detail.count("File ") == 2
    assert "return {}['a']" in error.detail
    assert "batchyard" not in error.detail.replace(str(project), "")


def test_the_cause_of_an_error_is_trimmed_too(project):
    put(
        project,
        "handler.py",
        "try:\n    int('x')\nexcept ValueError as e:\n    raise RuntimeError('no table') from e",
    )
    error = refusal(project)
    assert "line 4: importing it raised RuntimeError: no table." in error.sentence
    assert "invalid literal" in error.detail
    assert "load.py" not in error.detail


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param({"handler.py": "def f(:\n"}, "handler.py, line 1: SyntaxError: ", id="the handler"),
        pytest.param(
            {"handler.py": "import broken_part\n", "broken_part.py": "x = 1\ny = = 2\n"},
            "broken_part.py, line 2: SyntaxError: ",
            id="a file it imports",
        ),
        pytest.param({"handler.py": "if 1:\nx = 1"}, "handler.py, line 2: IndentationError: ", id="indentation"),
        pytest.param({"handler.py": "x = 1\0"}, "handler.py", id="null byte"),
    ],
)
def test_a_file_that_does_not_parse_is_named_with_its_line(project, files, said):
    for path, text in files.items():
        put(project, path, text)
    assert str(refusal(project)).startswith(said)


def test_a_file_that_is_not_utf_8_is_refused(project):
    (project / "handler.py").write_bytes(b"x = '\xff'\n")
    assert "SyntaxError" in str(refusal(project))


@pytest.mark.parametrize("code", ["0", "1", "'bye'"])
def test_sys_exit_at_import_is_refused(project, code):
    put(project, "handler.py", f"import sys\nsys.exit({code})")
    error = refusal(project)
    assert f"ended the process by sys.exit({code}) while being imported" in error.sentence
    assert "line 2" in error.detail


def test_a_module_that_failed_is_not_left_half_imported(project):
    put(project, "handler.py", "value = 1\nraise OSError")
    assert "importing it raised OSError." in str(refusal(project))
    assert "handler" not in sys.modules


def test_a_missing_package_is_named_with_the_place_to_ask_for_it(project):
    put(project, "handler.py", "import surely_not_installed.part")
    said = str(refusal(project))
    assert "ModuleNotFoundError: No module named 'surely_not_installed'" in said
    assert "handler.dependencies.pip" in said


def test_a_sibling_in_a_folder_is_named_with_the_import_that_finds_it(project):
    put(project, "sources/tables.py", "")
    put(project, "sources/handler.py", "import tables")
    assert "write `from sources import tables`" in str(refusal(project, "sources/handler.py"))
