"""What may have been meant by a name that is not there; apart because models and inputs ask the same."""

from contextlib import suppress
from itertools import islice

from batchyard.api.errors import BatchyardError, nearest
from batchyard.storage.port import Storage

_MOST = 1000  # names that are looked at: one page of a listing


def nearest_url(storage: Storage, name: str) -> str | None:
    """Return the URL of the name nearest to ``name`` in the deepest folder of it that holds anything.

    None when nothing is near, or the storage does not answer: a hint is not worth an error.
    """
    folder, rest = name.rstrip("/"), ""
    with suppress(BatchyardError):
        while folder:
            folder, _, missing = folder.rpartition("/")
            below = f"{folder}/" if folder else ""
            some = islice(storage.list(beginning=below), _MOST)
            found = {stored.name.removeprefix(below).partition("/")[0] for stored in some}
            if found:
                near = nearest(missing, found - {missing})
                return None if near is None else storage.url(below + near + rest)
            rest = f"/{missing}{rest}"
    return None
