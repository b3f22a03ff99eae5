"""``mrigen doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrigen.errors import one_line


def doctor(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...", help="Stores, references, model folders, or run folders with all of them."
        ),
    ] = None,
) -> None:
    """Show versions, devices and disks; check folders against their checksums.

    Exit code 1 where something is damaged.

    Examples:

    - what a bug report needs: `mrigen doctor`

    - a run that was copied from another machine: `mrigen doctor runs/demo/brain`
    """
    from mrigen.recipe import health

    if folders:
        sound = [_report(path, faults) for folder in folders for path, faults in health.check(folder).items()]
        if not all(sound):
            raise typer.Exit(1)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for title, rows in {
        "Environment": health.environment(),
        "Devices": health.devices(),
        "Disks": health.disks(health.folders_in_use()),
    }.items():
        table = Table(title=title, show_header=False, box=None, title_justify="left")
        for name, value in rows.items():
            table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
        Console().print(table)


def _report(path: Path, faults: list[str]) -> bool:
    """Print what was found; whether it is sound."""
    typer.echo(one_line(f"{path}: {'damaged' if faults else 'sound'}"))
    for fault in faults:
        typer.echo(f"  {one_line(fault)}")
    return not faults
