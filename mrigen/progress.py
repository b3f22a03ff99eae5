"""Progress bars with rate and time left, on stderr; plain lines where there is no terminal."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mrigen import ranks
from mrigen.errors import one_line

T = TypeVar("T")
B = TypeVar("B", bound=Sized)


class Advance(Protocol):
    """Report progress: how many more units are done, and a few words to show beside the bar."""

    def __call__(self, units: int = 1, note: str = "") -> None:
        """``units`` more are done."""
        ...


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """The rate as a column's text."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} {self._unit}/s", style="cyan")


@contextmanager
def bar(description: str, total: int, unit: str = "it", done: int = 0) -> Iterator[Advance]:
    """Progress bar over ``total`` units of which ``done`` were finished before (a resumed job).

    Without a terminal one line is printed at the start and one at every tenth of the way. Of several
    processes the first one shows it.
    """
    if ranks.rank():
        yield _nothing
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, description, total, unit, done)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, speed_estimate_period=60) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")

        def advance(units: int = 1, note: str = "") -> None:
            progress.update(task, advance=units, note=one_line(note))

        yield advance


def track(items: Iterable[T], description: str, total: int, unit: str = "it") -> Iterator[T]:
    """Iterate with a progress bar."""
    with bar(description, total, unit) as advance:
        for item in items:
            yield item
            advance()


def counted(batches: Iterable[B], advance: Advance) -> Iterator[B]:
    """Pass batches on and report their sizes."""
    for batch in batches:
        yield batch
        advance(len(batch))


def _nothing(units: int = 1, note: str = "") -> None:
    """What another process than the first tells of its progress."""


def _lines(console: Console, description: str, total: int, unit: str, done: int) -> Advance:
    import time

    start, finished = time.monotonic(), done
    shown = 10 * done // max(total, 1)

    def advance(units: int = 1, note: str = "") -> None:
        nonlocal finished, shown
        finished += units
        tenth = 10 * finished // max(total, 1)
        if tenth > shown:
            shown = tenth
            seconds = time.monotonic() - start
            rate = (finished - done) / max(seconds, 1e-9)
            left = max(total - finished, 0) / rate  # the last batch may be more than what was missing
            line = f"{description}: {finished}/{total} {unit}, {rate:.3g} {unit}/s, {left:.0f} s left {note}"
            console.print(one_line(line.rstrip()), highlight=False, markup=False)

    return advance
