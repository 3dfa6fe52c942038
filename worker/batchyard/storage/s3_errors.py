"""What a bucket may answer, and what it means to a person: a sentence each, with the URL and the missing permission.

Apart from the calls because it is a table. An answer's own text is not passed on where the code says enough: it may
quote a request, and a request has a signature.
"""

from typing import Any

from botocore import exceptions as boto

from batchyard.api.errors import BatchyardError
from batchyard.storage.port import Changed, NotThere, StorageRefused, StorageUnavailable

_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.CredentialRetrievalError,
)
_BROKEN = (
    boto.HTTPClientError,
    boto.ResponseStreamingError,
    boto.IncompleteReadError,
    boto.ConnectionError,
    boto.FlexibleChecksumError,
)
_DENIED = {"AccessDenied", "AccessDeniedException", "Forbidden", "AllAccessDisabled", "AccountProblem", "403"}
_UNKNOWN_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "UnrecognizedClientException"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestExpired"}
_NO_KEY = {"NoSuchKey", "404", "NotFound", "NoSuchVersion"}
_ELSEWHERE = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
    "307",
}
_CHANGED = {"PreconditionFailed", "412", "ConditionalRequestConflict"}
_THROTTLED = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "TooManyRequestsException",
    "BandwidthLimitExceeded",
    "ProvisionedThroughputExceededException",
    "503",
    "429",
}
_BUSY = {"InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "NoSuchUpload"}
_BAD_REQUEST = {"400", "BadRequest"}
_NOT_IMPLEMENTED = 501


class BeyondTheEnd(StorageRefused):
    """A range that begins behind the last byte."""


class Unknown(StorageRefused):
    """A request, or a header of it, that the store does not know."""


def translated(error: Exception, url: str, action: str, region: str | None) -> BatchyardError:
    """Return a client's error in our words. ``action`` is the IAM permission that the call needs."""
    if isinstance(error, boto.ClientError):
        return _answered(error.response, url, action, region)
    if isinstance(error, RecursionError):  # botocore looks for the bucket's region by a request redirected as well
        return StorageRefused(f"{url}: the store redirects every request: set the region and the endpoint.")
    if isinstance(error, _NO_CREDENTIALS):
        return StorageRefused(
            f"{url}: no AWS credentials are found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, "
            "or give the pod a service account with a role."
        )
    if isinstance(error, boto.ProfileNotFound):
        return StorageRefused(f"{url}: the AWS profile that AWS_PROFILE names is not in the AWS configuration.")
    if isinstance(error, boto.SSLError):
        return StorageUnavailable(
            f"{url}: the store's certificate is not trusted or the TLS connection broke: name the authority's file "
            "in AWS_CA_BUNDLE."
        )
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError | boto.ProxyConnectionError):
        return StorageUnavailable(f"{url}: the store cannot be reached: check the endpoint and that it is up.")
    if isinstance(error, boto.ReadTimeoutError):
        return StorageUnavailable(f"{url}: the store does not answer in time.")
    if isinstance(error, boto.FlexibleChecksumError):
        return StorageUnavailable(f"{url}: what was received does not match its checksum.")
    if isinstance(error, _BROKEN):
        return StorageUnavailable(f"{url}: the connection broke before the whole answer was there.")
    if isinstance(error, boto.ParamValidationError | boto.InvalidRegionError | ValueError):
        return StorageRefused(f"{url}: the bucket's name, the region or the endpoint is not a valid one.")
    return StorageRefused(f"{url}: the S3 client cannot be set up: {type(error).__name__}.")


def _answered(response: dict[str, Any], url: str, action: str, region: str | None) -> BatchyardError:
    code = str(response.get("Error", {}).get("Code") or "")
    meta = response.get("ResponseMetadata", {})
    status = int(meta.get("HTTPStatusCode", 0))
    headers = meta.get("HTTPHeaders", {})
    there = response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
    if code in _ELSEWHERE or (code in _BAD_REQUEST and there and there != region):
        home = f"in region {there}" if there else "in another region"
        return StorageRefused(f"{url}: the bucket is {home}, not in {region or 'the default one'}: set the region.")
    if code in _DENIED:
        also = " (or the file is not there: to be told so takes s3:ListBucket)" if action == "s3:GetObject" else ""
        return StorageRefused(f"{url}: access is denied: the credentials in use lack {action} there{also}.")
    if code in _UNKNOWN_KEY:
        return StorageRefused(
            f"{url}: the store does not accept the access key or its secret: check the credentials."
        )
    if code in _EXPIRED:
        return StorageRefused(f"{url}: the credentials have expired: renew the session token.")
    if code == "NoSuchBucket":
        return NotThere(f"{url}: there is no such bucket.")
    if code in _NO_KEY:
        return NotThere(f"{url}: there is no such file.")
    if code in {"InvalidRange", "416"}:
        return BeyondTheEnd(f"{url}: the file has no such bytes.")
    if code in _CHANGED:
        return Changed(f"{url} was changed while it was read: leave input files alone while a job runs.")
    if code in _THROTTLED:
        return StorageUnavailable(f"{url}: the store is throttling requests ({code}).")
    if code == "NotImplemented" or status == _NOT_IMPLEMENTED:
        return Unknown(f"{url}: the store does not know this kind of request (it needs {action}).")
    if code in _BUSY or status >= 500:
        return StorageUnavailable(f"{url}: the store fails with {code or status}.")
    if code == "InvalidObjectState":
        return StorageRefused(f"{url}: the file is archived: restore it first.")
    if code == "RequestTimeTooSkewed":
        return StorageRefused(f"{url}: the clock of this machine differs too much from the store's: set it.")
    return StorageRefused(f"{url}: the store refuses the request with {code or status} (it needs {action}).")
