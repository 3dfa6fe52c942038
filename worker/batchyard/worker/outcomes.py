"""What can become of a batch in a handler process, and how a process's death is shared out among its batches.

Pure, so that every kind of death can be tested without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchyard.api.messages import Header
from batchyard.queue.port import COMPLETION, Delivery, Failure

_DETAIL = 16_000  # characters of a failure's detail that are kept


@dataclass(slots=True)
class Work:
    """A delivery on its way through a handler process. ``header`` is None for the completion token.

    ``fetched``: the whole body of a batch whose delivery is a reference, while it is needed.
    """

    delivery: Delivery
    header: Header | None
    fed_at: float = 0.0
    timed_out: bool = False
    fetched: bytes = b""

    @property
    def body(self) -> bytes:
        """The message with its items."""
        return self.fetched or self.delivery.body

    @property
    def size(self) -> int:
        """Bytes of the message with its items, about."""
        return max(len(self.body), self.header.stored if self.header else 0)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """``lines`` are the result lines, empty when no output is wanted."""

    work: Work
    lines: bytes


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """One attempt is used up."""

    work: Work
    failure: Failure


@dataclass(frozen=True, slots=True)
class GivenBack:
    """No attempt is used up: the model server was away (``transient``), or the process went for another's fault."""

    work: Work
    reason: str
    transient: bool = False


Outcome = Succeeded | AttemptFailed | GivenBack


@dataclass(slots=True)
class Refused:
    """The handler or its model will never stand: the job cannot run. ``reason`` None: give this worker up only."""

    reason: str | None
    message: str


@dataclass(frozen=True, slots=True)
class End:
    """The end of a handler process. ``running``: sequence numbers in its slots; ``told``: how it ended, in words.

    ``doomed``: the worker ended it because a batch timed out, even if that one has finished since.
    """

    running: Mapping[int, float]
    told: str
    stack: str
    last_lines: Sequence[str]
    batch_timeout: float | None
    worker: str
    stopping: bool
    doomed: bool = False


def share_out(in_hand: Mapping[int, Work], end: End, now: float) -> tuple[list[Outcome], list[Work]]:
    """Return what becomes of each batch a dead process held, and the suspects that must each run alone next.

    The batch that was running pays an attempt. Not a batch that had not started, nor the neighbours of one that
    timed out. With several running nobody can tell which of them did it: all are suspects, none pays yet.
    """
    outcomes: list[Outcome] = []
    suspects: list[Work] = []

    def fail(work: Work, reason: str, error: str, detail: str) -> None:
        outcomes.append(AttemptFailed(work, Failure(reason, error, detail[-_DETAIL:], now, end.worker)))

    for seq, work in in_hand.items():
        if work.timed_out and not end.stopping:
            error = f"the batch ran longer than batchTimeout ({end.batch_timeout:g} s) and was killed"
            fail(work, "BatchTimeout", error, end.stack)
        elif end.stopping or end.doomed or seq not in end.running:
            outcomes.append(GivenBack(work, f"its handler process {end.told}"))
        elif len(end.running) > 1:
            suspects.append(work)
        else:
            what = "on_job_complete" if work.delivery.index == COMPLETION else "the batch"
            last = ["last output:", *end.last_lines] if end.last_lines else []
            detail = "\n".join(filter(None, (end.stack, *last)))
            fail(work, "ProcessDied", f"the handler process {end.told} while it ran {what}", detail)
    return outcomes, suspects
