"""A real S3 server, and this process and its children logged in to it."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from s3_server import BUCKET, OWNER, REGION, S3Server, missing


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if missing():
        pytest.skip(missing())
    server = S3Server(tmp_path_factory.mktemp("s3") / "server")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    monkeypatch.setenv("AWS_REGION", REGION)


@pytest.fixture
def new_prefix() -> Callable[[], str]:
    """A function that returns the URL of a prefix that nobody else has."""
    return lambda: f"s3://{BUCKET}/{uuid4().hex}"
