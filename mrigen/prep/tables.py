"""What a preparation did, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mrigen.errors import one_line


def show_store(console: Console, out: Path, rows: Iterable[tuple[str, str]], references: Path | None) -> None:
    """Print what a store holds.

    Args:
        console: where to print.
        out: folder of the store.
        rows: names and values.
        references: folder of the references, or None.
    """
    table = Table(title=f"measurement store {out}", show_header=False, title_justify="left")
    for row in rows:
        table.add_row(*row)
    if references is not None:
        table.add_row("references", f"{references} (for evaluation only)")
    console.print(table)


def show_failures(console: Console, title: str, what: str, reasons: Mapping[str, str]) -> None:
    """Print what could not be prepared, if anything.

    Args:
        console: where to print.
        title: of the table.
        what: heading of the names.
        reasons: why, by name.
    """
    if not reasons:
        return
    table = Table(title=title, title_justify="left", title_style="red")
    table.add_column(what, overflow="fold", max_width=40)
    table.add_column("reason", overflow="fold")
    for name, reason in reasons.items():
        table.add_row(one_line(name), one_line(reason))
    console.print(table)


def show_notes(console: Console, notes: Iterable[str]) -> None:
    """Print what the user should know, a line each."""
    for note in notes:
        console.print(f"note: {note}", style="yellow", highlight=False)
