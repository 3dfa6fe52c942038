"""The files that one path of this machine gives: a file, a folder, or a glob below a folder.

Folders are walked in byte order of the full paths below them, which is the order an object store lists in, without
holding the whole list: a million files need one folder's names at a time.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchyard.api.errors import Problem, nearest
from batchyard.enqueue.globs import Globs, cut_at_glob, has_magic
from batchyard.enqueue.root import Listed, Picks, anchored, check_name
from batchyard.enqueue.split import InputInvalid


@dataclass(frozen=True)
class LocalRoot:
    """One path of the input, resolved: a file, a folder, or a folder with the glob that stands in the path.

    ``written``: what the user wrote, up to the glob. ``base``: the same, absolute.
    """

    index: int
    written: str
    base: str
    is_file: bool
    picks: Picks

    def listed(self, after: str | None) -> Iterator[Listed]:
        """Yield every file, selected or not, in order; from the one ``after`` on, itself included.

        Raises InputInvalid for a folder that cannot be read, a link to nothing and a name that is not UTF-8.
        """
        start = os.fsencode(after) if after is not None else b""
        for below in [os.path.basename(self.base)] if self.is_file else self._walk("", start, ()):  # noqa: PTH119 - strings, a million times
            path = self.base if self.is_file else os.path.join(self.base, below)  # noqa: PTH118
            shown = self.written if self.is_file else os.path.join(self.written, below)  # noqa: PTH118
            check_name(path)
            yield Listed(self.index, below, path, shown)

    def selects(self, below: str) -> bool:
        """Return whether the file at this path below the root is selected."""
        return self.picks.pick(below) and (self.is_file or not _is_hidden(below) or self.picks.names_hidden)

    def covers(self, path: str) -> bool:
        """Return whether this root gives the file at an absolute path."""
        if self.is_file:
            return path == self.base and self.selects(os.path.basename(path))  # noqa: PTH119
        prefix = self.base.rstrip("/") + "/"
        return path.startswith(prefix) and self.selects(path[len(prefix) :])

    def _walk(self, folder: str, start: bytes, seen: tuple[tuple[int, int], ...]) -> Iterator[str]:
        """Yield the files below ``folder`` whose path is not before ``start``."""
        path = os.path.join(self.base, folder) if folder else self.base  # noqa: PTH118
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
            if self.picks.excludes.matches_folder(below.rstrip("/")):
                continue
            if name.startswith(b".") and not self.picks.names_hidden:
                continue
            yield from self._walk(below, start, (*seen, identity))


def local_root(
    index: int, field: str, written: str, folder: Path, includes: Globs | None, excludes: Globs
) -> LocalRoot:
    """Resolve a path that a user wrote; ``folder`` is where relative ones start. Raises InputInvalid."""
    home = os.path.expanduser(written)  # noqa: PTH111 - a glob is not a Path
    base = os.path.abspath(os.path.join(folder, home))  # noqa: PTH100, PTH118
    pattern = None
    if not os.path.lexists(base) and has_magic(home):  # a file may be called data[1].csv
        head, pattern = cut_at_glob(home)
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
    written = "" if written in (".", "./") else written
    picks = Picks(anchored(field, pattern) if pattern else None, includes, excludes)
    return LocalRoot(index, written, base, stat.S_ISREG(mode), picks)


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
