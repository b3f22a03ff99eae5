"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

COLUMNS = {
    "fd": "Fréchet distance",
    "proximal": "proximal",
    "stop": "stop",
    "distance": "to the truth",
    "coverage": "coverage",
    "seconds_per_1000": "seconds per 1,000",
    "evaluations": "network evaluations",
}
FLOOR = "floor"


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Observations, teachers and student of a study: distances, time and network evaluations."""
    rows = {name: row for name, row in summary.items() if isinstance(row, Mapping)}
    columns = [key for key in COLUMNS if any(key in row for row in rows.values())]
    table = Table(title=f"Fréchet distance in {summary['features']} features, n = {summary['n']}")
    table.add_column("", min_width=15)
    for key in columns:
        table.add_column(COLUMNS[key], justify="right")
    for name, row in rows.items():
        words = ("another part of the reference", "dim") if name == FLOOR else (name, None)
        table.add_row(words[0], *(_number(row.get(key)) for key in columns), style=words[1])
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


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if f"{name}_std" in row:
        return f"{text} ± {row[f'{name}_std']:.2g}"
    interval = row.get(f"{name}_interval")
    return text if interval is None else f"{text} [{interval[0]:.4g}, {interval[1]:.4g}]"
