import pytest
from batchyard.enqueue.globs import Globs, has_magic


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        pytest.param("*.jpg", "a.jpg", True, id="a name"),
        pytest.param("*.jpg", "x/y/a.jpg", True, id="a name at any depth"),
        pytest.param("*.jpg", "a.JPG", False, id="case counts"),
        pytest.param("/*.jpg", "x/a.jpg", False, id="a leading slash asks for the top"),
        pytest.param("x/*.jpg", "x/a.jpg", True, id="a slash anchors"),
        pytest.param("x/*.jpg", "w/x/a.jpg", False, id="anchored at the top only"),
        pytest.param("x/*.jpg", "x/y/a.jpg", False, id="a star stays within a folder"),
        pytest.param("x/**/*.jpg", "x/a.jpg", True, id="two stars span no folder"),
        pytest.param("x/**/*.jpg", "x/y/z/a.jpg", True, id="two stars span folders"),
        pytest.param("**/y/*.jpg", "x/y/a.jpg", True, id="leading stars"),
        pytest.param("train", "x/train/a/b.jpg", True, id="a folder's name takes all below it"),
        pytest.param("train/", "x/train/b.jpg", True, id="a trailing slash takes a folder"),
        pytest.param("train/", "x/train", False, id="a trailing slash takes no file"),
        pytest.param("*.{jpg,png}", "a.png", True, id="either"),
        pytest.param("part-[0-4]*", "part-3.csv", True, id="a class"),
        pytest.param("part-[!0-4]*", "part-3.csv", False, id="a class turned round"),
        pytest.param("a?c", "abc", True, id="one character"),
        pytest.param("*.jpg", ".a.jpg", False, id="a star takes no leading dot"),
        pytest.param(".*.jpg", "x/.a.jpg", True, id="a dot that is named"),
        pytest.param("./x/a.jpg", "x/a.jpg", True, id="a leading dot and slash"),
        pytest.param("é*.txt", "x/ete.txt", False, id="unicode that differs"),
        pytest.param("é*.txt", "x/élan.txt", True, id="unicode"),
    ],
)
def test_matches_as_gitignore_does(pattern, path, matches):
    assert Globs([pattern]).matches(path) is matches


def test_any_of_several_patterns_matches():
    globs = Globs(["*.jpg", "labels/"])
    assert [p for p in ("a.jpg", "labels/x.csv", "b.txt") if globs.matches(p)] == ["a.jpg", "labels/x.csv"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        pytest.param("!*.jpg", "use excludes", id="a negation"),
        pytest.param("", "expected a glob like", id="nothing"),
        pytest.param("/", "expected a glob like", id="a slash alone"),
        pytest.param("{1..100000}", "expected globs", id="far too many alternatives"),
    ],
)
def test_refuses(pattern, words):
    with pytest.raises(ValueError, match=words):
        Globs([pattern])


def test_tells_a_glob_from_a_path():
    assert [p for p in ("a.csv", "a*", "a?", "[ab]", "{a,b}", "a b") if has_magic(p)] == ["a*", "a?", "[ab]", "{a,b}"]
