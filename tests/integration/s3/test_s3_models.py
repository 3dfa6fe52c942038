"""Models in a bucket, on a real S3 server: which are taken for one, what is fetched of them, and what is said."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from batchyard.api.spec import Models
from batchyard.models.fetch import ready_models
from batchyard.models.layout import ModelInvalid
from batchyard.models.local import ServedModel
from batchyard.storage.port import StorageUnavailable, StoreOptions
from s3_server import BUCKET, WRITER, S3Server, SpoilingProxy, free_ports

SAVED = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"i",
    "variables/variables.data-00000-of-00001": b"d",
}


def saved_model(at: str, **more: bytes) -> dict[str, bytes]:
    return {f"{at}/{name}": content for name, content in {**SAVED, **more}.items()}


@pytest.fixture
def put(s3: S3Server, new_prefix: Callable[[], str]) -> Callable[..., str]:
    """A function that puts objects below a prefix of their own, or ``into`` one, and returns its URL."""

    def put(files: dict[str, bytes], into: str = "") -> str:
        url, client = into or new_prefix(), s3.client()
        for name, content in files.items():
            client.put_object(Bucket=BUCKET, Key=f"{url.removeprefix(f's3://{BUCKET}/')}/{name}", Body=content)
        return url

    return put


@pytest.fixture
def ready(s3: S3Server, tmp_path: Path) -> Callable[..., list[ServedModel]]:
    """A function that makes models ready below the test's folder."""

    def ready(endpoint: str = "", pauses: tuple[float, ...] = (), **models: Any) -> list[ServedModel]:
        options = StoreOptions(endpoint=endpoint or s3.endpoint, attempts=2)
        places = {"folder": tmp_path, "links": tmp_path / "links", "downloads": tmp_path / "downloads"}
        return ready_models(Models.model_validate(models), **places, options=options, pauses=pauses)

    return ready


def versions_at(model: ServedModel) -> list[int]:
    """Return what a model server would load."""
    return sorted(int(child.name) for child in model.base_path.iterdir() if child.name.isdigit())


def test_one_saved_model_is_version_1_of_a_model_of_its_prefixs_name(put, ready, tmp_path):
    url = put(saved_model("iris", **{"assets/vocab é+.txt": b"words", "_SUCCESS": b""}))
    (model,) = ready(path=f"{url}/iris/", signatureKey="s")
    assert model == ServedModel("iris", tmp_path / "downloads" / "iris", (1,), "s")
    assert (model.base_path / "1" / "assets" / "vocab é+.txt").read_bytes() == b"words"
    assert versions_at(model) == [1]


def test_version_folders_are_all_fetched_and_their_zeros_read_as_a_server_does(put, ready):
    url = put({**saved_model("m/1"), **saved_model("m/007"), "m/README.md": b"x"})
    (model,) = ready(path=f"{url}/m")
    assert model.versions == (1, 7)
    assert versions_at(model) == [1, 7]


def test_a_prefix_that_is_one_version_keeps_its_number(put, ready):
    url = put(saved_model("m/3"))
    (model,) = ready(path=f"{url}/m/3")
    assert (model.name, model.versions, versions_at(model)) == ("m", (3,), [3])


def test_models_of_a_bucket_and_of_this_machine_keep_their_order(put, ready, tmp_path):
    url = put({**saved_model("a"), **saved_model("b/2")})
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "saved_model.pb").write_bytes(b"graph")
    paths = [("z", f"{url}/b"), ("y", "local"), ("x", f"{url}/a")]
    models = ready(paths=[{"name": name, "path": path} for name, path in paths])
    assert [(model.name, model.versions) for model in models] == [("z", (2,)), ("y", (1,)), ("x", (1,))]
    assert all((model.base_path / str(model.versions[0]) / "saved_model.pb").exists() for model in models)


def test_each_folder_of_a_dir_is_a_model(put, ready):
    url = put({**saved_model("first"), **saved_model("second/1"), **saved_model("second/2"), "README.md": b""})
    models = ready(dir=url, versions="latest")
    assert [(model.name, model.versions, versions_at(model)) for model in models] == [
        ("first", (1,), [1]),
        ("second", (2,), [2]),
    ]


def test_only_the_versions_that_are_asked_for_are_fetched_and_others_go(s3, put, ready):
    url = put({**saved_model("m/1"), **saved_model("m/2"), **saved_model("m/3")})
    with closing(SpoilingProxy(s3.port, lambda *_: None)) as proxy:
        (model,) = ready(path=f"{url}/m", versions="latest", endpoint=proxy.endpoint)
        assert not [path for _, path in proxy.requests if "/m/1/" in path or "/m/2/" in path]
    assert (model.versions, versions_at(model)) == ((3,), [3])
    (model,) = ready(path=f"{url}/m", versions=[2, 1])
    assert (model.versions, versions_at(model)) == ((1, 2), [1, 2])


def test_what_did_not_change_is_not_fetched_again(s3, put, ready):
    url = put({**saved_model("m/1"), **saved_model("m/2")})
    ready(path=f"{url}/m")
    put({"m/2/saved_model.pb": b"new graph"}, into=url)
    with closing(SpoilingProxy(s3.port, lambda *_: None)) as proxy:
        (model,) = ready(path=f"{url}/m", endpoint=proxy.endpoint)
        fetched = [path for _, path in proxy.requests if "list-type" not in path]
    assert fetched
    assert all("/m/2/" in path for path in fetched)
    assert (model.base_path / "2" / "saved_model.pb").read_bytes() == b"new graph"


@pytest.mark.parametrize(
    ("files", "models", "words"),
    [
        pytest.param({"iris/saved_model.pb": b"g"}, {"path": "{u}/irys"},
                     "models.path: there is no file below {u}/irys. Did you mean {u}/iris?", id="nothing there"),
        pytest.param({"m/model.keras": b"k"}, {"path": "{u}/m"},
                     "models.path: {u}/m holds no SavedModel; model.keras is a Keras file", id="another format"),
        pytest.param({"m/variables/variables.index": b""}, {"path": "{u}/m"},
                     "found:\n  variables/variables.index\nexpected:\n  saved_model.pb", id="a half model"),
        pytest.param({"m/saved_model.pb": b"g", "m/variables/variables.data-00000-of-00001": b""},
                     {"paths": [{"name": "a", "path": "{u}/m"}]},
                     "models.paths[0].path: {u}/m lacks variables/variables.index", id="no index"),
        pytest.param({"m/1/saved_model.pb": b"g"}, {"dir": "{u}/m"}, "write models.path instead of models.dir",
                     id="a model as dir"),
        pytest.param({"m/1/saved_model.pb": b""}, {"path": "{u}/m"},
                     "model 'm', version 1: {u}/m/1/saved_model.pb is empty", id="an empty graph"),
        pytest.param({"m/1/saved_model.pb": b"g"}, {"path": "{u}/m", "versions": [2]},
                     "models.path: {u}/m: found versions 2, expected versions that the model has: 1.", id="versions"),
        pytest.param({"my m/saved_model.pb": b"g"}, {"path": "{u}/my m"}, "would be named 'my m'", id="its name"),
        pytest.param({}, {"path": "s3://no-such-bucket/m"},
                     "models.path: s3://no-such-bucket/m/: there is no such bucket.", id="no bucket"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_before_anything_is_fetched(put, ready, tmp_path, files, models, words):
    url = put(files)
    with pytest.raises(ModelInvalid) as refused:
        ready(**json.loads(json.dumps(models).replace("{u}", url)))
    assert words.format(u=url) in str(refused.value)
    assert not (tmp_path / "downloads").exists()


def test_a_wrong_model_is_told_before_a_right_one_is_fetched(put, ready, tmp_path):
    url = put({**saved_model("good"), "bad/x.onnx": b""})
    paths = [{"name": "good", "path": f"{url}/good"}, {"name": "bad", "path": f"{url}/bad"}]
    with pytest.raises(ModelInvalid, match=r"models.paths\[1\].path: \S+/bad holds no SavedModel; x.onnx is an ONNX"):
        ready(paths=paths)
    assert not (tmp_path / "downloads").exists()


def test_who_may_not_list_is_told_the_permission(put, ready, monkeypatch):
    url = put(saved_model("m"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    with pytest.raises(ModelInvalid, match=r"^models.path: s3://\S+/m/: access is denied.*lack s3:ListBucket there"):
        ready(path=f"{url}/m")


def test_a_store_that_is_away_for_a_while_is_waited_for(s3, put, ready):
    url, refused = put(saved_model("m")), 12

    def spoil(number: int, method: str, path: str) -> str | None:
        return "503 SlowDown" if number <= refused else None

    with closing(SpoilingProxy(s3.port, spoil)) as proxy:
        (model,) = ready(path=f"{url}/m", endpoint=proxy.endpoint, pauses=(0.0,) * 10)
    assert versions_at(model) == [1]


def test_a_store_that_stays_away_is_told_with_the_model(put, ready):
    put(saved_model("m"))
    with pytest.raises(StorageUnavailable, match=r"^models.path: s3://data/m/: the store cannot be reached"):
        ready(path="s3://data/m", endpoint=f"http://127.0.0.1:{free_ports(1)[0]}", pauses=(0.0,))


def test_a_model_that_was_cut_off_is_gone_on_with_and_never_seen_in_half(s3, put, ready, tmp_path):
    big = bytes(range(256)) * 4096 * 3
    url = put(saved_model("m", **{f"assets/{i}": big for i in range(4)}))

    def spoil(number: int, method: str, path: str) -> str | None:
        return "403 AccessDenied" if path.endswith("assets/3") else None

    with closing(SpoilingProxy(s3.port, spoil)) as proxy, pytest.raises(ModelInvalid, match=r"model 'm': .*denied"):
        ready(path=f"{url}/m", endpoint=proxy.endpoint)
    assert not (tmp_path / "downloads" / "m" / "1").exists()
    (model,) = ready(path=f"{url}/m")
    assert (model.base_path / "1" / "assets" / "3").read_bytes() == big
