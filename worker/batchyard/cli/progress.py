"""Draws a running job: a live bar on a terminal, a line now and then elsewhere, nothing when asked for quiet.

All of it goes to stderr: stdout is the summary's.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batchyard.local.meter import View

_PLAIN_SECONDS = 10.0
_PLAIN_STEP = 0.1
_PLAIN_PAUSE = 1.0


class Drawing(Protocol):
    """What the command needs of a drawing, besides being the runner's observer."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; what was drawn stays."""
        ...

    def say(self, text: str) -> None:
        """Show one sentence of the runner's."""
        ...

    def show(self, view: View) -> None:
        """Show how far the job is."""
        ...

    def line(self, text: str) -> None:
        """Show a line of a handler's or a worker's."""
        ...


def drawing(*, quiet: bool) -> Drawing:
    """Return what fits stderr."""
    if quiet:
        return Quiet()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return Sturdy(Bar(console) if console.is_terminal and not console.is_dumb_terminal else Plain())


def counts(view: View) -> str:
    """Return done, failed and total batches."""
    total = f"{view.total:,}" if view.total is not None else f"{view.published:,}+"
    failed = f", {view.failed:,} failed" if view.failed else ""
    return f"{view.settled:,}/{total} batches{failed}"


def pace(view: View) -> str:
    """Return items a second and the time left, as far as they are known."""
    parts = []
    if view.rate is not None:
        parts.append(f"{view.rate:,.0f} items/s" if view.rate >= 10 else f"{view.rate:.2f} items/s")
    if view.eta is not None:
        parts.append(f"{clock(view.eta)} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Return a length of time as 4:05 or 2:00:09."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


class Quiet:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """Show nothing."""

    def show(self, view: View) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        """Show nothing."""


class Sturdy:
    """Draws until whoever looks is gone (a closed terminal, ``| head``): the job goes on without being seen."""

    def __init__(self, drawn: Drawing) -> None:
        self._drawn = drawn

    def __enter__(self) -> Self:
        self._drawn.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._try(lambda: self._drawn.__exit__(kind, error, trace))

    def say(self, text: str) -> None:
        """Show one sentence of the runner's."""
        self._try(lambda: self._drawn.say(text))

    def show(self, view: View) -> None:
        """Show how far the job is."""
        self._try(lambda: self._drawn.show(view))

    def line(self, text: str) -> None:
        """Show a line of a handler's or a worker's."""
        self._try(lambda: self._drawn.line(text))

    def _try(self, draw: Callable[[], None]) -> None:
        try:
            draw()
        except OSError:
            self._drawn = Quiet()


class Plain(Quiet):
    """Lines for a log: at a new phase, each tenth of the batches, a new reason to wait, or every ten seconds."""

    def __init__(self) -> None:
        self._phase = ""
        self._step = -1
        self._why = ""
        self._at = 0.0

    def say(self, text: str) -> None:
        """Write a sentence."""
        click.echo(text, err=True)

    def line(self, text: str) -> None:
        """Write a line."""
        click.echo(text, err=True)

    def show(self, view: View) -> None:
        """Write a line if there is something new to tell."""
        now = time.monotonic()
        step = int(view.settled / view.total / _PLAIN_STEP) if view.total else -1
        why = view.why.partition(" (")[0]
        new = view.phase != self._phase or (why and why != self._why)
        new = new or (step != self._step and now - self._at >= _PLAIN_PAUSE)
        if not new and now - self._at < _PLAIN_SECONDS:
            return
        self._phase, self._step, self._why, self._at = view.phase, step, why, now
        parts = [clock(view.elapsed), view.phase, counts(view), pace(view), view.why]
        click.echo("  ".join(part for part in parts if part), err=True)


class Bar(Quiet):
    """A live bar at the bottom of a terminal; lines scroll above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=True, auto_refresh=False)
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Write a sentence above the bar."""
        self._console.print(Text(text, style="cyan"))

    def line(self, text: str) -> None:
        """Write a line above the bar."""
        self._console.print(Text.from_ansi(text))

    def show(self, view: View) -> None:
        """Draw the bar anew, at most eight times a second."""
        now = time.monotonic()
        if now - self._drawn < 0.12:
            return
        self._drawn = now
        row = Table.grid(padding=(0, 2))
        known = view.total is not None
        bar = ProgressBar(
            total=max(1, view.total or view.published or 1),
            completed=view.settled,
            width=30,
            pulse=not known and not view.settled,
            finished_style="bar.finished" if not view.failed else "red",
        )
        row.add_row(
            Text(view.phase, style="bold"),
            bar,
            Text(counts(view), style="red" if view.failed else ""),
            Text(pace(view)),
            Text(clock(view.elapsed), style="dim"),
        )
        lines: list[Table | Text] = [row]
        if view.why:
            lines.append(Text(f"  {view.why}", style="yellow"))
        self._live.update(Group(*lines), refresh=True)
