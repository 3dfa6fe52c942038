"""When a child that died is started again, and when it is given up: pure, the time is a parameter."""

from dataclasses import dataclass


@dataclass(slots=True)
class Restarts:
    """Counts deaths in a row. ``first_delay`` seconds after the first one, doubling to ``max_delay``."""

    limit: int
    first_delay: float = 0.25
    max_delay: float = 5.0
    in_a_row: int = 0
    due: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a death was noted and the start after it has not been made."""
        return self.due is not None

    def died(self, now: float, *, at_once: bool = False) -> bool:
        """Note a death at ``now``; return whether to go on trying."""
        self.in_a_row += 1
        delay = 0.0 if at_once else min(self.max_delay, self.first_delay * 2.0 ** (self.in_a_row - 1))
        self.due = now + delay
        return self.in_a_row < self.limit

    def worked(self) -> None:
        """Note that the child did what it is for: the deaths before do not count any more."""
        self.in_a_row = 0

    def take(self, now: float) -> bool:
        """Return whether a start is to be made now; the caller makes it."""
        if self.due is not None and now < self.due:
            return False
        self.due = None
        return True
