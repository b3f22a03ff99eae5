"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

COLUMNS = {
    "energy_outside": "energy outside",
    "high_frequency_ratio": "power beyond N/4",
    "proximal": "proximal",
    "stop": "stop",
    "distance": "to the truth",
    "coverage": "coverage",
    "seconds_per_1000": "seconds per 1,000",
    "evaluations": "network evaluations",
}
FLOOR = "floor"


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Observations, teachers and student of a study: distances, spectra, time and network evaluations.

    Power beyond N/4 is over that of the references, and energy outside 200 principal components of the
    references is a fraction; the references' own stand below, left out of the components in turns.
    """
    rows = {name: row for name, row in summary.items() if isinstance(row, Mapping)}
    held_out = rows.pop("held_out_references")
    names = {key: f"Fréchet distance ({name})" for key, name in distances(summary).items()} | COLUMNS
    columns = [key for key in names if any(key in row for row in rows.values())]
    table = Table(title=f"n = {summary['n']}, references: {summary['references']}")
    table.add_column("", min_width=12)
    for key in columns:
        table.add_column(names[key], justify="right")
    for name, row in rows.items():
        words = ("another part of the reference", "dim") if name == FLOOR else (name, None)
        table.add_row(words[0], *(_number(row.get(key)) for key in columns), style=words[1])
    if held_out:
        own = {"high_frequency_ratio": 1.0, **held_out}
        table.add_row("the references", *(_number(own.get(key)) for key in columns), style="dim")
    return table


def distances(summary: Mapping[str, Any]) -> dict[str, str]:
    """Feature spaces of a study's Fréchet distances, by the key of their numbers."""
    first, *others = summary["features"]
    return {"fd": first, **{f"fd_{name}": name for name in others}}


def rows_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Any rows of numbers and words; an interval ``NAME_interval`` stands beside its number.

    Few rows of many numbers become columns, so that a narrow terminal shows every name in full.

    Args:
        rows: with the same keys, the first one a name; lists other than intervals are left out.
        title: above the table.
    """
    names = [
        name
        for name, value in rows[0].items()
        if not isinstance(value, list | tuple) and not name.endswith("_std")
    ]
    table = Table(title=title)
    if len(rows) < len(names) - 1:
        label, *numbers = names
        table.add_column(label, no_wrap=True)
        for row in rows:
            table.add_column(str(row[label]), justify="right", overflow="fold")
        for name in numbers:
            table.add_row(name, *(_cell(row, name) for row in rows))
        return table
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
