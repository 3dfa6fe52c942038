"""Which files an input names, in an order that never depends on the file system.

Folders are walked in byte order of the full paths below them, which is the order an object store lists in, without
holding the whole list: a million files need one folder's names at a time. Whether an earlier path of the input
already gave a file is computed, not remembered.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchyard.api.errors import Problem, nearest
from batchyard.enqueue.globs import Globs, has_magic
from batchyard.enqueue.settings import InputSettings
from batchyard.enqueue.split import InputInvalid


@dataclass(frozen=True, slots=True)
class Listed:
    """One selected file: ``path`` absolute, ``shown`` as the user would write it, ``below`` relative to its root."""

    root: int
    below: str
    path: str
    shown: str


@dataclass(frozen=True)
class Root:
    """One path of the input, resolved: a file, a folder, or a folder with the glob that stands in the path.

    ``written``: what the user wrote, up to the glob. ``base``: the same, absolute.
    """

    written: str
    base: str
    is_file: bool
    glob: Globs | None
    includes: Globs | None
    excludes: Globs

    def selects(self, below: str) -> bool:
        """Return whether the file at this path below the root is selected."""
        if self.glob is not None and not self.glob.matches(below):
            return False
        if self.includes is not None and not self.includes.matches(below):
            return False
        if self.excludes.matches(below):
            return False
        if self.is_file or not _is_hidden(below):
            return True
        # a pattern that names the dot has matched; without one, hidden files are left alone as a shell does
        return any(globs is not None and globs.names_hidden for globs in (self.glob, self.includes))

    def shows_hidden(self) -> bool:
        """Return whether hidden folders are worth walking."""
        return any(globs is not None and globs.names_hidden for globs in (self.glob, self.includes))

    def covers(self, path: str) -> bool:
        """Return whether this root gives the file at an absolute path."""
        if self.is_file:
            return path == self.base and self.selects(os.path.basename(path))  # noqa: PTH119 - strings, a million times
        prefix = self.base.rstrip("/") + "/"
        return path.startswith(prefix) and self.selects(path[len(prefix) :])


class Listing:
    """The files of an input. ``looked`` counts the files seen so far, selected or not; ``selected`` those taken."""

    def __init__(self, given: InputSettings, folder: Path, *, allow_empty: bool = False) -> None:
        self._field = f"input.{given.kind}"
        self._given = given
        self._allow_empty = allow_empty
        self.looked = 0
        self.selected = 0
        self._example = ""
        includes = self._globs("includes", given.includes) if given.includes else None
        excludes = self._globs("excludes", given.excludes)
        self._roots = [
            self._root(f"{self._field}.paths[{i}]", path, folder, includes, excludes)
            for i, path in enumerate(given.paths)
        ]

    def files(self, after: tuple[int, str] | None = None) -> Iterator[Listed]:
        """Yield the selected files in order; from ``after`` (a root and a path below it), itself included.

        Raises InputInvalid for a folder that cannot be read, a link to nothing, a name that is not UTF-8, and, when
        reading from the start, for paths that select none of the files that are there.
        """
        first = after[0] if after is not None else 0
        for i, root in enumerate(self._roots[first:], first):
            start = os.fsencode(after[1]) if after is not None and i == first else b""
            for below in [os.path.basename(root.base)] if root.is_file else self._walk(root, "", start, ()):  # noqa: PTH119
                self.looked += 1
                path = root.base if root.is_file else os.path.join(root.base, below)  # noqa: PTH118
                if not root.selects(below) or any(earlier.covers(path) for earlier in self._roots[:i]):
                    self._example = self._example or below
                    continue
                self.selected += 1
                shown = root.written if root.is_file else os.path.join(root.written, below)  # noqa: PTH118
                _check_name(path)
                yield Listed(i, below, path, shown)
        if after is None and self.looked and not self.selected and not self._allow_empty:
            raise InputInvalid(self._nothing())

    def _walk(self, root: Root, folder: str, start: bytes, seen: tuple[tuple[int, int], ...]) -> Iterator[str]:
        """Yield the files below ``folder`` whose path is not before ``start``."""
        path = os.path.join(root.base, folder) if folder else root.base  # noqa: PTH118
        names, identity = _names(path)
        if identity in seen:  # a link to a folder above: it was listed already
            return
        for name in names:
            below = folder + os.fsdecode(name)
            key = os.fsencode(below)
            if not name.endswith(b"/"):
                if key >= start:
                    yield below
                continue
            if key < start and not start.startswith(key):
                continue
            if root.excludes.matches_folder(below.rstrip("/")):
                continue
            if name.startswith(b".") and not root.shows_hidden():
                continue
            yield from self._walk(root, below, start, (*seen, identity))

    def _root(self, field: str, written: str, folder: Path, includes: Globs | None, excludes: Globs) -> Root:
        scheme, separator, _ = written.partition("://")
        if separator:
            raise InputInvalid(f"{field}: found {written!r}, expected a path on this machine ({scheme}:// is not).")
        home = os.path.expanduser(written)  # noqa: PTH111 - a glob is not a Path
        base = os.path.abspath(os.path.join(folder, home))  # noqa: PTH100, PTH118
        pattern = None
        if not os.path.lexists(base) and has_magic(home):  # a file may be called data[1].csv
            head, pattern = _cut_at_glob(home)
            written = head or "."
            base = os.path.abspath(os.path.join(folder, head))  # noqa: PTH100, PTH118
        try:
            mode = os.stat(base).st_mode  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            raise InputInvalid(_missing(field, written, base)) from None
        except OSError as error:
            raise InputInvalid(f"{field}: {written!r} cannot be read: {error.strerror}.") from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputInvalid(f"{field}: found {written!r}, which is neither a file nor a folder.")
        # the glob is anchored where its fixed part ends, unlike an include, which may match at any depth
        globbed = self._globs("paths", ["/" + pattern]) if pattern else None
        written = "" if written in (".", "./") else written
        return Root(written, base, stat.S_ISREG(mode), globbed, includes, excludes)

    def _globs(self, name: str, patterns: list[str]) -> Globs:
        try:
            return Globs(patterns)
        except ValueError as error:
            raise InputInvalid(f"{self._field}.{name}: {error}") from error

    def _nothing(self) -> str:
        given = self._given
        picked = [f"{name} {getattr(given, name)}" for name in ("includes", "excludes") if getattr(given, name)]
        by = " with " + " and ".join(picked) if picked else ""
        return (
            f"{self._field}: paths {given.paths}{by} select none of the {self.looked:,} files looked at "
            f"(the first is {self._example!r}), expected at least one."
        )


def _names(path: str) -> tuple[list[bytes], tuple[int, int]]:
    """Return the names in a folder, sorted (those of folders with ``/``: it sorts full paths), and its identity."""
    names = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if entry.is_dir():
                    names.append(name + b"/")
                elif entry.is_file():
                    names.append(name)
                elif entry.is_symlink():
                    raise InputInvalid(
                        f"{entry.path}: found a link to nothing, expected a file; excludes can skip it."
                    )
        info = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise InputInvalid(f"{path}: the folder cannot be read: {error.strerror}.") from error
    names.sort()
    return names, (info.st_dev, info.st_ino)


def _is_hidden(below: str) -> bool:
    return below.startswith(".") or "/." in below


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputInvalid(f"{os.fsencode(path)!r}: found a file name that is not UTF-8, expected UTF-8.") from None


def _cut_at_glob(path: str) -> tuple[str, str]:
    """Return the folder that is fixed, and the pattern below it."""
    fixed: list[str] = []
    pieces = path.split("/")
    while pieces and not has_magic(pieces[0]):
        fixed.append(pieces.pop(0))
    return "/".join(fixed) or ("/" if path.startswith("/") else ""), "/".join(pieces)


def _missing(field: str, written: str, base: str) -> str:
    """Return the sentence for a path that does not exist, with the nearest name beside what is missing."""
    missing = Path(base)
    while not missing.parent.exists():
        missing = missing.parent
    try:
        siblings = sorted(os.listdir(missing.parent))  # noqa: PTH208
    except OSError:
        siblings = []
    near = nearest(missing.name, siblings)
    hint = str(missing.with_name(near)) if near else None
    return Problem(
        field, f"{written!r}, and there is no {str(missing)!r}", "a file, folder or glob", nearest=hint
    ).sentence()
