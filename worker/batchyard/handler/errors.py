"""What is said of a handler that cannot run; apart so that loading, checking and installing say it the same way."""

import traceback
from collections.abc import Iterator
from pathlib import Path

from batchyard.api.errors import InvalidError

_OURS = str(Path(__file__).resolve().parent.parent)


class HandlerInvalid(InvalidError):
    """The user's handler, its project or its dependencies are wrong.

    ``sentence`` says where, what was found and what is expected. ``detail`` is a traceback or the end of a command's
    output, empty when there is none; ``str()`` gives both.
    """

    reason = "HandlerInvalid"

    def __init__(self, sentence: str, detail: str = ""):
        super().__init__(sentence)
        self.sentence = sentence
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.sentence}\n{self.detail}" if self.detail else self.sentence


def user_traceback(error: BaseException, project: Path) -> str:
    """Return the traceback of an error in the user's code without the frames that lead there.

    Kept are the frames from the first one in a file below ``project`` on, without Python's import machinery. When no
    frame is below it (a file that does not parse), only the error's own lines are left.
    """
    told = traceback.TracebackException.from_exception(error)
    roots = (str(project), str(project.resolve()))
    for part in _chain(told):
        part.stack = traceback.StackSummary.from_list(_user_frames(part.stack, roots))
    return "".join(told.format()).rstrip("\n")


def _user_frames(stack: traceback.StackSummary, roots: tuple[str, ...]) -> list[traceback.FrameSummary]:
    frames = [f for f in stack if not f.filename.startswith("<frozen importlib")]
    for position, frame in enumerate(frames):
        theirs = any(_is_below(frame.filename, root) for root in roots)
        if theirs and not _is_below(frame.filename, _OURS):
            return frames[position:]
    return []


def _is_below(filename: str, folder: str) -> bool:
    return filename.startswith(folder.rstrip("/") + "/")


def _chain(told: traceback.TracebackException | None) -> Iterator[traceback.TracebackException]:
    if told is None:
        return
    yield told
    yield from _chain(told.__cause__)
    yield from _chain(told.__context__)
    for inner in getattr(told, "exceptions", None) or ():
        yield from _chain(inner)
