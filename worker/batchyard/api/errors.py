"""Three families of errors, because there are three reactions; apart so that every layer can raise them.

``InvalidError``: the user's manifest, handler, model or input is wrong. Said at once, never retried.
``TransientError``: network, locks, a restarting server. Retried with backoff.
Anything else is a bug of ours and crashes with its trace; nothing is acknowledged.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class BatchyardError(Exception):
    """The root of what Batchyard raises on purpose."""


class InvalidError(BatchyardError):
    """Something the user wrote is wrong; the message says where, what was found and what is expected.

    ``reason`` is the CamelCase reason that the job's status carries (``HandlerInvalid``, ``ModelInvalid``,
    ``InputInvalid``, ``ManifestInvalid``, ``OutputInvalid``).
    """

    reason: str = "Invalid"


class TransientError(BatchyardError):
    """A fault that passes: worth another try after a while, and not the fault of the batch in hand."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file the user wrote.

    ``where`` is a field path (``spec.handler.type``) or a place in a file; ``line`` counts from 1, None when
    unknown; ``nearest`` is the nearest valid name, None when nothing is near.
    """

    where: str
    found: str
    expected: str
    line: int | None = None
    nearest: str | None = None

    def sentence(self) -> str:
        """Return the problem as one line for a person."""
        place = f"line {self.line}: {self.where}" if self.line is not None else self.where
        hint = f" Did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{place}: found {self.found}, expected {self.expected}.{hint}"


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name nearest to ``name``, or None when none is near (difflib's ratio below 0.6)."""
    matches = difflib.get_close_matches(name, list(valid), n=1)
    if matches:
        return matches[0]
    folded = {v.replace("_", "").replace("-", "").lower(): v for v in valid}
    return folded.get(name.replace("_", "").replace("-", "").lower())
