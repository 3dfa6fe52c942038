"""Models on disk: found, linked, and refused by what is there."""

import os
from pathlib import Path

import pytest
from batchyard.models.layout import ModelInvalid
from batchyard.models.local import NamedPath, ServedModel, read_models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest's folder: models/iris is one SavedModel, models/digits has the versions 1 and 10."""
    for at in ("models/iris", "models/digits/1", "models/digits/10"):
        (tmp_path / at).mkdir(parents=True)
        (tmp_path / at / "saved_model.pb").write_bytes(b"graph")
    return tmp_path


def test_a_model_without_versions_is_linked_as_version_1(folder: Path) -> None:
    links = folder / ".batchyard" / "models"
    assert read_models(folder, links, path="models/iris") == [ServedModel("iris", links / "iris", (1,))]
    assert (links / "iris" / "1" / "saved_model.pb").read_bytes() == b"graph"


def test_a_model_with_versions_is_served_from_where_it_is(folder: Path) -> None:
    served = read_models(folder, folder / "links", path="./models/digits/", signature_key="predict")
    assert served == [ServedModel("digits", folder / "models" / "digits", (1, 10), "predict")]
    assert not (folder / "links").exists()


def test_a_path_to_one_version_keeps_its_number_and_its_models_name(folder: Path) -> None:
    served = read_models(folder, folder / "links", path="models/digits/10")
    assert served == [ServedModel("digits", folder / "links" / "digits", (10,))]
    assert [child.name for child in (folder / "links" / "digits").iterdir()] == ["10"]


def test_links_are_made_again_and_old_ones_go(folder: Path) -> None:
    links = folder / "links"
    read_models(folder, links, path="models/digits/10")
    read_models(folder, links, path="models/digits/1")
    read_models(folder, links, path="models/digits/1")
    assert [(link.name, link.readlink()) for link in (links / "digits").iterdir()] == [
        ("1", folder / "models" / "digits" / "1")
    ]


def test_named_paths_keep_their_order_names_and_signature_keys(folder: Path) -> None:
    paths = [NamedPath("second", "models/iris", "mine"), NamedPath("first", str(folder / "models" / "digits"))]
    served = read_models(folder, folder / "links", paths=paths, signature_key="all")
    assert [(each.name, each.versions, each.signature_key) for each in served] == [
        ("second", (1,), "mine"),
        ("first", (1, 10), "all"),
    ]


def test_a_directory_serves_each_of_its_folders(folder: Path) -> None:
    served = read_models(folder, folder / "links", directory="models")
    assert [(each.name, each.versions) for each in served] == [("digits", (1, 10)), ("iris", (1,))]


def test_links_in_a_model_are_followed_and_a_loop_ends(folder: Path) -> None:
    (folder / "latest").symlink_to(folder / "models" / "iris")
    (folder / "models" / "iris" / "again").symlink_to(folder / "models" / "iris")
    (served,) = read_models(folder, folder / "links", path="latest")
    assert served.name == "latest"
    assert (served.base_path / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("models/irys", "models.path: there is no folder models/irys (looked for {folder}/models/irys)."),
        ("models/irys", "Did you mean models/iris?"),
        ("model/iris", "Did you mean models/iris?"),
        ("{folder}/models/irys", "Did you mean {folder}/models/iris?"),
        ("nothing/like/it", "there is no folder nothing/like/it (looked for {folder}/nothing/like/it)."),
        ("models/iris/saved_model.pb", "models.path: models/iris/saved_model.pb is a file, expected a folder"),
        ("s3://bucket/iris", "models.path: found 's3://bucket/iris', expected a folder of this machine"),
        ("models", "models.path: models is no SavedModel itself; write models/digits, or models.dir for each of 2"),
    ],
)  # fmt: skip
def test_a_path_that_is_no_model_folder_is_refused(folder: Path, path: str, words: str) -> None:
    with pytest.raises(ModelInvalid) as refused:
        read_models(folder, folder / "links", path=path.format(folder=folder))
    assert words.format(folder=folder) in str(refused.value)


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    paths = [NamedPath("a", "models/iris"), NamedPath("a", "models/digits")]
    with pytest.raises(ModelInvalid, match=r"models.paths\[1\].name: found 'a' a second time \(for models/iris and"):
        read_models(folder, folder / "links", paths=paths)


def test_an_empty_graph_is_refused(folder: Path) -> None:
    (folder / "models" / "digits" / "10" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelInvalid, match=r"model 'digits', version 10: .*saved_model.pb is empty"):
        read_models(folder, folder / "links", path="models/digits")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file; run the tests as an ordinary user")
@pytest.mark.parametrize("at", ["models/iris", "models/iris/saved_model.pb"])
def test_what_may_not_be_read_is_said(folder: Path, at: str) -> None:
    (folder / at).chmod(0)
    try:
        with pytest.raises(ModelInvalid, match="can't be read: Permission denied"):
            read_models(folder, folder / "links", path="models/iris")
    finally:
        (folder / at).chmod(0o700)


def test_a_folder_that_cannot_be_a_models_name_is_refused(folder: Path) -> None:
    (folder / "models" / "iris").rename(folder / "models" / "my model")
    with pytest.raises(ModelInvalid, match=r"would be named 'my model'.*give it a name in models.paths"):
        read_models(folder, folder / "links", path="models/my model")
