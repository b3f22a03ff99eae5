"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Observations, teacher and student of a study: distance, time and network evaluations."""
    table = Table(title=f"Fréchet distance in {summary['features']} features, n = {summary['n']}")
    for column in ("", "Fréchet distance", "seconds per 1,000", "network evaluations"):
        table.add_column(column, justify="left" if not column else "right")
    for kind in ("observation", "teacher", "student"):
        row = summary[kind]
        seconds = row.get("seconds_per_1000")
        table.add_row(
            kind,
            f"{row['fd']:.4g}",
            "" if seconds is None else f"{seconds:.3g}",
            str(row.get("evaluations", "")),
        )
    if "floor" in summary:
        table.add_row("another part of the reference", f"{summary['floor']['fd']:.4g}", "", "", style="dim")
    return table


def rows_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Any rows of numbers and words; an interval ``NAME_interval`` stands beside its number.

    Args:
        rows: with the same keys; lists other than intervals are left out.
        title: above the table.
    """
    names = [
        name
        for name, value in rows[0].items()
        if not isinstance(value, list | tuple) and not name.endswith("_std")
    ]
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_cell(row, name) for name in names))
    return table


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if f"{name}_std" in row:
        return f"{text} ± {row[f'{name}_std']:.2g}"
    interval = row.get(f"{name}_interval")
    return text if interval is None else f"{text} [{interval[0]:.4g}, {interval[1]:.4g}]"
