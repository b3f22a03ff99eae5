"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
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
    table.add_row("another part of the reference", f"{summary['floor']['fd']:.4g}", "", "", style="dim")
    return table
