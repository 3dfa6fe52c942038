"""Models on disk: found, linked, and refused by what is there."""

import os
from pathlib import Path
from typing import Any

import pytest
from batchyard.api.spec import Models
from batchyard.models.fetch import ready_models
from batchyard.models.layout import ModelInvalid
from batchyard.models.local import ServedModel
from batchyard.storage.port import StoreOptions


def served(folder: Path, links: Path, **models: Any) -> list[ServedModel]:
    given = Models.model_validate(models)
    return ready_models(given, folder=folder, links=links, downloads=folder / "downloads", options=StoreOptions())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest's folder: models/iris is one SavedModel, models/digits has the versions 1 and 10."""
    for at in ("models/iris", "models/digits/1", "models/digits/10"):
        (tmp_path / at).mkdir(parents=True)
        (tmp_path / at / "saved_model.pb").write_bytes(b"graph")
    return tmp_path


def test_a_model_without_versions_is_linked_as_version_1(folder: Path) -> None:
    links = folder / ".batchyard" / "models"
    assert served(folder, links, path="models/iris") == [ServedModel("iris", links / "iris", (1,))]
    assert (links / "iris" / "1" / "saved_model.pb").read_bytes() == b"graph"


def test_a_model_with_versions_is_served_from_where_it_is(folder: Path) -> None:
    found = served(folder, folder / "links", path="./models/digits/", signatureKey="predict")
    assert found == [ServedModel("digits", folder / "models" / "digits", (1, 10), "predict")]
    assert not (folder / "links").exists()


def test_a_path_to_one_version_keeps_its_number_and_its_models_name(folder: Path) -> None:
    found = served(folder, folder / "links", path="models/digits/10")
    assert found == [ServedModel("digits", folder / "links" / "digits", (10,))]
    assert [child.name for child in (folder / "links" / "digits").iterdir()] == ["10"]


def test_links_are_made_again_and_old_ones_go(folder: Path) -> None:
    links = folder / "links"
    served(folder, links, path="models/digits/10")
    served(folder, links, path="models/digits/1")
    served(folder, links, path="models/digits/1")
    assert [(link.name, link.readlink()) for link in (links / "digits").iterdir()] == [
        ("1", folder / "models" / "digits" / "1")
    ]


def test_named_paths_keep_their_order_names_and_signature_keys(folder: Path) -> None:
    paths = [
        {"name": "second", "path": "models/iris", "signatureKey": "mine"},
        {"name": "first", "path": str(folder / "models" / "digits")},
    ]
    found = served(folder, folder / "links", paths=paths, signatureKey="all")
    assert [(each.name, each.versions, each.signature_key) for each in found] == [
        ("second", (1,), "mine"),
        ("first", (1, 10), "all"),
    ]


def test_a_directory_serves_each_of_its_folders(folder: Path) -> None:
    found = served(folder, folder / "links", dir="models")
    assert [(each.name, each.versions) for each in found] == [("digits", (1, 10)), ("iris", (1,))]


def test_links_in_a_model_are_followed_and_a_loop_ends(folder: Path) -> None:
    (folder / "latest").symlink_to(folder / "models" / "iris")
    (folder / "models" / "iris" / "again").symlink_to(folder / "models" / "iris")
    (found,) = served(folder, folder / "links", path="latest")
    assert found.name == "latest"
    assert (found.base_path / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("models/irys", "models.path: there is no folder models/irys (looked for {folder}/models/irys)."),
        ("models/irys", "Did you mean models/iris?"),
        ("model/iris", "Did you mean models/iris?"),
        ("{folder}/models/irys", "Did you mean {folder}/models/iris?"),
        ("nothing/like/it", "there is no folder nothing/like/it (looked for {folder}/nothing/like/it)."),
        ("models/iris/saved_model.pb", "models.path: models/iris/saved_model.pb is a file, expected a folder"),
        ("models", "models.path: models is no SavedModel itself; write models/digits, or models.dir for each of 2"),
    ],
)  # fmt: skip
def test_a_path_that_is_no_model_folder_is_refused(folder: Path, path: str, words: str) -> None:
    with pytest.raises(ModelInvalid) as refused:
        served(folder, folder / "links", path=path.format(folder=folder))
    assert words.format(folder=folder) in str(refused.value)


@pytest.mark.parametrize(
    ("versions", "kept"),
    [
        pytest.param("latest", (10,), id="the latest"),
        pytest.param([1], (1,), id="a list"),
        pytest.param([10, 1, 10], (1, 10), id="a list of all, out of order"),
    ],
)
def test_only_the_versions_that_are_asked_for_are_served(folder: Path, versions: Any, kept: tuple[int, ...]) -> None:
    (found,) = served(folder, folder / "links", path="models/digits", versions=versions)
    assert found.versions == kept
    assert sorted(int(child.name) for child in found.base_path.iterdir()) == list(kept)
    assert (found.base_path / str(kept[-1]) / "saved_model.pb").exists()


def test_each_model_may_ask_for_other_versions(folder: Path) -> None:
    path = "models/digits"
    paths = [{"name": "a", "path": path}, {"name": "b", "path": path, "versions": [1]}]
    found = served(folder, folder / "links", paths=paths, versions="latest")
    assert [(each.name, each.versions) for each in found] == [("a", (10,)), ("b", (1,))]


def test_a_version_that_is_not_there_is_refused_by_number(folder: Path) -> None:
    words = r"models.path: models/digits: found versions 3, expected versions that the model has: 1, 10\."
    with pytest.raises(ModelInvalid, match=words):
        served(folder, folder / "links", path="models/digits", versions=[1, 3])


def test_an_empty_graph_is_refused(folder: Path) -> None:
    (folder / "models" / "digits" / "10" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelInvalid, match=r"model 'digits', version 10: .*saved_model.pb is empty"):
        served(folder, folder / "links", path="models/digits")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file; run the tests as an ordinary user")
@pytest.mark.parametrize("at", ["models/iris", "models/iris/saved_model.pb"])
def test_what_may_not_be_read_is_said(folder: Path, at: str) -> None:
    (folder / at).chmod(0)
    try:
        with pytest.raises(ModelInvalid, match="can't be read: Permission denied"):
            served(folder, folder / "links", path="models/iris")
    finally:
        (folder / at).chmod(0o700)


def test_a_folder_that_cannot_be_a_models_name_is_refused(folder: Path) -> None:
    (folder / "models" / "iris").rename(folder / "models" / "my model")
    with pytest.raises(ModelInvalid, match=r"would be named 'my model'.*give it a name in models.paths"):
        served(folder, folder / "links", path="models/my model")
