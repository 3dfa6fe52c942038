"""What the API server may answer, by the reaction; apart so that the client library's errors end at the door."""

from batchyard.api.errors import BatchyardError, TransientError


class NotThere(BatchyardError):
    """There is no such object (404), or it is another one of that name."""


class Conflict(TransientError):
    """It was changed since it was looked at, or is there already (409): look again."""


class Refused(BatchyardError):
    """The API server will not have it (400, 403, 413, 422): the message is its own; another try changes nothing."""


class Unavailable(TransientError):
    """It does not answer, or not now (429, 5xx, no connection, a time-out)."""
