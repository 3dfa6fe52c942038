"""What a person is told when a bucket cannot be used, on a real server; AWS's own answers come by a proxy."""

import io
import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from batchyard.api.errors import BatchyardError
from batchyard.storage.door import open_folder
from batchyard.storage.port import Changed, NotThere, Storage, StorageRefused, StorageUnavailable, StoreOptions
from s3_server import BUCKET, OWNER, READER, REGION, WRITER, S3Server, SpoilingProxy, free_ports, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3") / "server")
    server.client().put_object(Bucket=BUCKET, Key="in/file", Body=b"content")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    return monkeypatch


def opened(endpoint: str, url: str = f"s3://{BUCKET}/in", **more: bool | int | float | str | None) -> Storage:
    return open_folder(url, StoreOptions(endpoint=endpoint, **{"region": REGION, "attempts": 2, **more}))  # type: ignore[arg-type]


def use(storage: Storage, how: str) -> None:
    match how:
        case "list":
            list(storage.list())
        case "read":
            with storage.open("file") as file:
                file.read()
        case "stat":
            storage.stat("file")
        case "put":
            storage.put("made", [b"x"])
        case "delete":
            storage.delete("made")
        case "delete_below":
            storage.delete_below("")
        case "sweep":
            storage.sweep()


def test_credentials_come_from_a_profile_and_the_endpoint_from_the_environment(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(f"[profile batch]\nregion = {REGION}\n")
    (tmp_path / "credentials").write_text(
        f"[batch]\naws_access_key_id={READER[0]}\naws_secret_access_key={READER[1]}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "batch")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert [stored.name for stored in open_folder(f"s3://{BUCKET}").list("in")] == ["in/file"]


@pytest.mark.parametrize("how", ["list", "read", "put"])
def test_no_credentials_are_told_with_what_to_set(s3: S3Server, how: str) -> None:
    with pytest.raises(StorageRefused, match=r"s3://data.*no AWS credentials are found: set AWS_ACCESS_KEY_ID"):
        use(opened(s3.endpoint), how)


def test_an_unknown_profile_is_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageRefused, match="profile that AWS_PROFILE names is not in the AWS configuration"):
        opened(s3.endpoint)


@pytest.mark.parametrize(
    ("keys", "how", "needed"),
    [
        pytest.param(READER, "put", r"s3://data/in/made: access is denied.* lack s3:PutObject", id="put"),
        pytest.param(READER, "delete", r"s3://data/in/made: access is denied.* lack s3:DeleteObject", id="delete"),
        pytest.param(READER, "delete_below", "s3://data/in.*s3:DeleteObject", id="delete below"),
        pytest.param(WRITER, "list", r"s3://data/in/: access is denied.* lack s3:ListBucket", id="list"),
        pytest.param(WRITER, "read", r"s3://data/in/file: access is denied.* lack s3:GetObject", id="read"),
        pytest.param(WRITER, "stat", r"s3://data/in/file: access is denied.* lack s3:GetObject", id="stat"),
    ],
)
def test_denied_access_names_the_url_and_the_missing_permission(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str], how: str, needed: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])
    with pytest.raises(StorageRefused, match=needed):
        use(opened(s3.endpoint), how)
    assert s3.client().head_object(Bucket=BUCKET, Key="in/file")["ContentLength"] == 7


def test_a_place_that_is_not_writable_fails_its_check(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    assert "lack s3:PutObject" in (opened(s3.endpoint).check() or "")


@pytest.mark.parametrize(
    "keys", [pytest.param(("NOBODY", "x"), id="unknown key"), pytest.param((OWNER[0], "x"), id="wrong secret")]
)
def test_wrong_keys_are_told_as_such(s3: S3Server, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str]) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])
    with pytest.raises(StorageRefused, match="does not accept the access key or its secret"):
        use(opened(s3.endpoint), "list")


def test_a_missing_bucket_and_a_missing_key_are_told_apart(s3: S3Server, log_in: pytest.MonkeyPatch) -> None:
    for how in ("list", "read"):
        with pytest.raises(NotThere, match=r"s3://no-bucket/in.*no such bucket"):
            use(opened(s3.endpoint, "s3://no-bucket/in"), how)
    with pytest.raises(NotThere, match=r"s3://data/out/file: there is no such file"):
        use(opened(s3.endpoint, "s3://data/out"), "read")


@pytest.mark.parametrize(
    ("answer", "family", "told"),
    [
        pytest.param("400 ExpiredToken", StorageRefused, "the credentials have expired", id="expired token"),
        pytest.param("400 TokenRefreshRequired", StorageRefused, "the credentials have expired", id="old token"),
        pytest.param(
            "301 PermanentRedirect", StorageRefused, "is in region eu-west-1, not in us-east-1", id="region"
        ),
        pytest.param(
            "400 AuthorizationHeaderMalformed",
            StorageRefused,
            "is in region eu-west-1, .* set the region",
            id="signature",
        ),
        pytest.param("403 RequestTimeTooSkewed", StorageRefused, "the clock of this machine", id="clock"),
        pytest.param("403 InvalidObjectState", StorageRefused, "is archived", id="archived"),
        pytest.param("412 PreconditionFailed", Changed, "was changed while it was read", id="changed"),
        pytest.param("503 SlowDown", StorageUnavailable, "is throttling requests", id="throttled"),
        pytest.param("500 InternalError", StorageUnavailable, "fails with InternalError", id="internal error"),
        pytest.param("502 ", StorageUnavailable, "fails with 502", id="bad gateway"),
        pytest.param("418 Teapot", StorageRefused, "refuses the request with Teapot", id="anything else"),
    ],
)
def test_every_answer_has_one_sentence(
    s3: S3Server, log_in: pytest.MonkeyPatch, answer: str, family: type[BatchyardError], told: str
) -> None:
    with (
        closing(SpoilingProxy(s3.port, lambda number, method, path: answer)) as proxy,
        pytest.raises(family, match=rf"^s3://data/in/file\b.*{told}"),
    ):
        use(opened(proxy.endpoint, attempts=1), "read")


def test_a_store_that_is_down_is_told_as_worth_another_try(log_in: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageUnavailable, match="s3://data/in/: the store cannot be reached"):
        use(opened(f"http://127.0.0.1:{free_ports(1)[0]}", attempts=1), "list")


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        pytest.param("s3://A_b!/x", "http://127.0.0.1:1", id="bucket"),
        pytest.param("s3://data/x", "not a url", id="endpoint"),
        pytest.param("s3://data/x", "http://user:hidden@127.0.0.1:1", id="password in the endpoint"),
    ],
)
def test_what_cannot_be_right_is_refused_before_a_request(
    log_in: pytest.MonkeyPatch, url: str, endpoint: str
) -> None:
    with pytest.raises(StorageRefused) as caught:
        use(opened(endpoint, url), "list")
    assert "hidden" not in str(caught.value)


def test_requests_bear_the_requester_pays_header_and_the_chosen_style(
    s3: S3Server, log_in: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []
    with closing(SpoilingProxy(s3.port, lambda number, method, path: paths.append(path))) as proxy:  # type: ignore[func-returns-value]
        use(opened(proxy.endpoint, requester_pays=True, path_style=True), "read")
        assert {name.lower() for name in proxy.headers[-1]} >= {"x-amz-request-payer"}
        use(opened(proxy.endpoint), "read")
        assert not {name.lower() for name in proxy.headers[-1]} & {"x-amz-request-payer"}
    assert paths == [f"/{BUCKET}/in/file"] * 2


def test_no_secret_reaches_a_log_or_an_error_even_when_everything_is_logged(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hidden-token")
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        for how in ("list", "read", "put", "stat"):
            with pytest.raises(StorageRefused) as caught:
                use(opened(s3.endpoint), how)
            text.writelines(traceback.format_exception(caught.value))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert "s3://data/in" in text.getvalue()
    assert "hidden" not in text.getvalue()
    assert "Signature=" not in text.getvalue()


def test_only_an_s3_url_loads_the_client() -> None:
    code = (
        "import sys; from batchyard.storage.door import open_folder; open_folder('/tmp/x'); "
        "assert 'botocore' not in sys.modules; open_folder('s3://b/x'); assert 'botocore' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
