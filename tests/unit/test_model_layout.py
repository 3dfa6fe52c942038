"""Which listings are models, and what is said of those that are not."""

import pytest
from batchyard.models.layout import ModelInvalid, directory_layouts, model_layout, name_and_version, version_number

SAVED_MODEL = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]


def below(folder: str, files: list[str] = SAVED_MODEL) -> list[str]:
    return [f"{folder}/{file}" for file in files]


@pytest.mark.parametrize(
    ("listing", "folders"),
    [
        pytest.param(SAVED_MODEL, {1: ""}, id="one SavedModel"),
        pytest.param(["saved_model.pb"], {1: ""}, id="a graph of constants"),
        pytest.param(["saved_model.pbtxt", "assets/words.txt"], {1: ""}, id="a graph as text"),
        pytest.param(below("1"), {1: "1"}, id="one version"),
        pytest.param([*below("1"), *below("10"), *below("9")], {1: "1", 9: "9", 10: "10"}, id="versions are numbers"),
        pytest.param(below("0"), {0: "0"}, id="version 0"),
        pytest.param(below("00012"), {12: "00012"}, id="leading zeros"),
        pytest.param(below("1700000000"), {1700000000: "1700000000"}, id="a time as version"),
        pytest.param(
            [*below("1"), ".DS_Store", "_SUCCESS", "README.md", "eval/report.json", ".cache/2/saved_model.pb"],
            {1: "1"},
            id="things beside the versions",
        ),
        pytest.param(
            [*SAVED_MODEL, "fingerprint.pb", "assets.extra/x", "assets/"], {1: ""}, id="things in a SavedModel"
        ),
        pytest.param(
            [*SAVED_MODEL, "1/notes.txt"], {1: ""}, id="a numbered folder in a SavedModel that is no version"
        ),
        pytest.param(
            ["saved_model.pb", "variables/variables.index"]
            + [f"variables/variables.data-{i:05d}-of-00003" for i in range(3)],
            {1: ""},
            id="variables in shards",
        ),
    ],
)
def test_a_listing_of_a_model_gives_its_version_folders(listing: list[str], folders: dict[int, str]) -> None:
    layout = model_layout(listing, "models/iris")
    assert dict(layout.folders) == folders
    assert layout.versions == tuple(sorted(folders))
    assert layout.is_versioned == ("" not in folders.values())


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        pytest.param([], "models/iris is empty.", id="empty"),
        pytest.param([".DS_Store"], "models/iris is empty.", id="only hidden files"),
        pytest.param(["model.keras"], "model.keras is a Keras file: load it and write a SavedModel", id="keras"),
        pytest.param(["weights/m.h5"], "m.h5 is a Keras file", id="h5"),
        pytest.param(["ckpt-3.index", "ckpt-3.data-00000-of-00001"], "ckpt-3.index is a checkpoint", id="checkpoint"),
        pytest.param(["frozen_graph.pb"], "frozen_graph.pb is a frozen graph", id="frozen graph"),
        pytest.param(["model.tflite"], "model.tflite is a TensorFlow Lite model", id="lite"),
        pytest.param(["model.onnx"], "call it from a handler of type python", id="onnx"),
        pytest.param(["model.tar.gz"], "model.tar.gz is an archive: unpack it", id="archive"),
        pytest.param(["notes.txt"], "holds no saved_model.pb.", id="something else"),
        pytest.param(SAVED_MODEL[1:], "holds variables/ and no saved_model.pb", id="variables without a graph"),
        pytest.param(
            ["saved_model.pb", "variables/variables.data-00000-of-00001"],
            "lacks variables/variables.index (an incomplete copy?)",
            id="no index",
        ),
        pytest.param(
            ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00003"],
            "lacks variables/variables.data-00001-of-00003 and others (an incomplete copy?)",
            id="missing shards",
        ),
        pytest.param(
            ["saved_model.pb", "variables/variables.index"],
            "lacks variables/variables.data-00000-of-00001",
            id="no shard",
        ),
        pytest.param(
            [*below("1"), "2/"],
            "has a version folder 2/ that is no SavedModel: it holds no saved_model.pb",
            id="empty",
        ),
        pytest.param(
            [*below("1"), "2/variables/variables.index"], "has a version folder 2/ that is no SavedModel", id="half"
        ),
        pytest.param(
            [*below("1"), *below("2", SAVED_MODEL[:2])],
            "has a version folder 2/ that is no SavedModel: it lacks variables/variables.data-00000-of-00001",
            id="a version without its values",
        ),
        pytest.param([*below("1"), *below("01")], "has two folders for version 1: 01/ and 1/", id="twice"),
        pytest.param([*below("1"), *below("v2")], "has a SavedModel in v2/ beside its versions", id="v2"),
        pytest.param([*below("1"), *below("-1")], "has a SavedModel in -1/ beside its versions", id="negative"),
        pytest.param([*below("1"), "2"], "has a file named like a version: 2", id="a file as version"),
        pytest.param([*SAVED_MODEL, *below("1")], "is a SavedModel and holds version folders too (1)", id="both"),
        pytest.param(below("export"), "is no SavedModel itself; write models/iris/export.\n", id="one too high"),
        pytest.param(below("export/3"), "write models/iris/export.\n", id="versions one too high"),
        pytest.param(
            [*below("a"), *below("b")], "write models/iris/a, or models.dir for each of 2 models.", id="several below"
        ),
    ],
)
def test_a_listing_that_is_no_model_is_refused_with_what_it_is(listing: list[str], words: str) -> None:
    with pytest.raises(ModelInvalid) as refused:
        model_layout(listing, "models/iris")
    assert words in str(refused.value)
    assert refused.value.reason == "ModelInvalid"


def test_a_refusal_shows_the_tree_found_shortened_and_the_tree_expected() -> None:
    with pytest.raises(ModelInvalid) as refused:
        model_layout([f"images/{i:03d}.png" for i in range(100)] + ["readme.md"], "models/iris")
    assert str(refused.value).splitlines()[:4] == [
        "models.path: models/iris holds no saved_model.pb.",
        "found:",
        "  readme.md",
        "  images/000.png",
    ]
    assert "  … and 89 more" in str(refused.value)
    assert "expected:\n  saved_model.pb" in str(refused.value)


def test_each_folder_of_a_directory_is_a_model() -> None:
    listing = [*below("iris"), *below("digits/1"), *below("digits/2"), "README.md", ".git/config", "_tmp/x"]
    layouts = directory_layouts(listing, "models")
    assert {name: layout.versions for name, layout in layouts.items()} == {"digits": (1, 2), "iris": (1,)}


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        pytest.param([], "models holds no folder, so no model", id="empty"),
        pytest.param(["saved_model.pb"], "models is one SavedModel; write models.path instead of", id="a SavedModel"),
        pytest.param(
            below("1"), "models is one model with version folders (1); write models.path instead", id="versions"
        ),
        pytest.param(
            [*below("iris"), "data/train.csv"], "models/data holds no saved_model.pb", id="a folder of data"
        ),
    ],
)
def test_a_directory_that_holds_no_models_is_refused(listing: list[str], words: str) -> None:
    with pytest.raises(ModelInvalid, match="found:") as refused:
        directory_layouts(listing, "models")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("models/iris", ("iris", 1)),
        ("models/iris/", ("iris", 1)),
        ("/", ("model", 1)),
        ("models/iris/3", ("iris", 3)),
        ("3", ("3", 3)),
        ("../3", ("3", 3)),
        ("s3://bucket/models/iris/007/", ("iris", 7)),
        ("s3://bucket", ("bucket", 1)),
    ],
)
def test_a_model_without_a_name_takes_its_folders(path: str, expected: tuple[str, int]) -> None:
    assert name_and_version(path) == expected


@pytest.mark.parametrize("name", ["", "-1", "+1", "1.0", "v1", "1 ", "²", "٣", "1_0", str(2**63), "9" * 5000])
def test_other_names_are_no_versions(name: str) -> None:
    assert version_number(name) is None
