"""``includes`` and ``excludes``: which paths a pattern selects, by the rules of .gitignore that people know.

Paths are relative, with ``/``. A pattern without a ``/`` matches at any depth; one with a ``/`` from the top; ``**``
spans folders; ``{a,b}`` is either; a pattern that matches a folder matches all below it; a trailing ``/`` asks for a
folder. Case counts. Wildcards do not match a leading dot: a hidden file is selected by a pattern that names its dot.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from wcmatch import glob
from wcmatch._wcparse import PatternLimitException  # documented, but exported nowhere else

_FLAGS = glob.GLOBSTAR | glob.BRACE | glob.FORCEUNIX | glob.CASE
_MAGIC = re.compile(r"[*?\[{]")


def has_magic(path: str) -> bool:
    """Return whether a path is a glob."""
    return _MAGIC.search(path) is not None


def cut_at_glob(path: str) -> tuple[str, str]:
    """Return the folder that is fixed, and the pattern below it."""
    fixed: list[str] = []
    pieces = path.split("/")
    while pieces and not has_magic(pieces[0]):
        fixed.append(pieces.pop(0))
    return "/".join(fixed) or ("/" if path.startswith("/") else ""), "/".join(pieces)


def literal_start(pattern: str) -> str:
    """Return what every path that a pattern matches begins with."""
    found = re.search(r"[*?\[{\\]", pattern)
    return pattern[: found.start()] if found else pattern


class Globs:
    """A list of patterns, compiled. Raises ValueError for one that cannot be.

    ``dots``: wildcards match leading dots too.
    """

    def __init__(self, patterns: Sequence[str], *, dots: bool = False) -> None:
        self.patterns = tuple(patterns)
        any_: list[str] = []
        folders: list[str] = []
        for pattern in patterns:
            if pattern.startswith("!"):
                raise ValueError(f"found {pattern!r}, expected a glob without '!'; use excludes to take files out.")
            trimmed = pattern.rstrip("/")
            if not trimmed.strip("./"):
                raise ValueError(f"found {pattern!r}, expected a glob like '*.jpg' or 'train/**'.")
            anchored = "/" in trimmed
            trimmed = trimmed.lstrip("/").removeprefix("./")
            (folders if pattern.endswith("/") else any_).append(trimmed if anchored else "**/" + trimmed)
        flags = _FLAGS | (glob.DOTGLOB if dots else 0)
        self._any = _compiled(any_, flags)
        self._either = _compiled([*any_, *folders], flags)
        self.names_hidden = any(re.search(r"(^|[/{,])\\?\.[^./]", pattern) for pattern in patterns)
        self._folder = lru_cache(4096)(self.matches_folder)

    def matches(self, path: str) -> bool:
        """Return whether a file is matched, by itself or by a folder it lies in."""
        return _hits(self._any, path) or self._folder(path.rpartition("/")[0])

    def matches_folder(self, path: str) -> bool:
        """Return whether a folder, or one that it lies in, is matched: then all below it is."""
        while path:
            if _hits(self._either, path):
                return True
            path = path.rpartition("/")[0]
        return False


def _hits(compiled: list[re.Pattern[str]], path: str) -> bool:
    return any(pattern.match(path) for pattern in compiled)


def _compiled(patterns: list[str], flags: int) -> list[re.Pattern[str]]:
    try:
        return [re.compile(text) for text in glob.translate(patterns, flags=flags)[0]]
    except (re.error, PatternLimitException) as error:
        raise ValueError(f"found {patterns}, expected globs: {error}.") from error
