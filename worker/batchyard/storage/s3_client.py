"""One S3 client: the standard chain of credentials, retries with backoff, and errors in our words.

botocore alone is enough for it: boto3 would add a layer that nothing here uses.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from batchyard.storage.port import StorageRefused, StoreOptions
from batchyard.storage.s3_errors import translated

CONNECTIONS = 32
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")


class Bucket:
    """The calls to one bucket."""

    def __init__(self, name: str, options: StoreOptions) -> None:
        """Find credentials and set up the client; raise StorageRefused when that is not possible."""
        self.name = name
        self.options = options
        if options.endpoint and "@" in urlsplit(options.endpoint).netloc:
            raise StorageRefused("The S3 endpoint holds a user or a password: keep credentials out of the URL.")
        _keep_signatures_out_of_logs()
        self._region: str | None = options.region
        with self.told("", "s3:ListBucket"):
            self._client = _client(options)
            self._region = self._client.meta.region_name

    def url(self, key: str) -> str:
        """Return the URL that a person knows a key by."""
        return f"s3://{self.name}/{key}" if key else f"s3://{self.name}"

    def call(self, operation: str, action: str, key: str | None = None, **more: Any) -> dict[str, Any]:
        """Make a call, with retries; ``key`` is an object's, None where the call is about the bucket."""
        about = more.get("Prefix", "") if key is None else key
        if key is not None:
            more["Key"] = key
        if self.options.requester_pays:
            more["RequestPayer"] = "requester"
        with self.told(about, action):
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self.name, **more)
        return answer

    @contextmanager
    def told(self, key: str, action: str) -> Iterator[None]:
        """Turn a client's error into one of ours that names the URL and the permission."""
        try:
            yield
        except (BotoCoreError, ClientError, ValueError, RecursionError) as error:
            # the cause stays out: a client's own text may quote what was sent
            raise translated(error, self.url(key), action, self._region) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _client(options: StoreOptions) -> Any:
    session = Session()
    own = options.endpoint or any(map(os.environ.get, _ENDPOINTS)) or session.get_scoped_config().get("endpoint_url")
    # checksums in trailers are AWS's own: many other stores refuse them
    checksums = dict.fromkeys(_CHECKSUMS, "when_required") if own else {}
    config = Config(
        # a mean wait of half of 1, 2, 4, 8, 16, 20, 20 s: 35 s at 8 attempts
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        user_agent_extra="batchyard",
        s3={} if options.path_style is None else {"addressing_style": "path" if options.path_style else "virtual"},
        **checksums,
    )
    return session.create_client("s3", region_name=options.region, endpoint_url=options.endpoint, config=config)


def _keep_signatures_out_of_logs() -> None:
    """At DEBUG botocore logs requests with their signatures and session tokens."""
    logger = logging.getLogger("botocore")
    if logger.level < logging.INFO:
        logger.setLevel(logging.INFO)
