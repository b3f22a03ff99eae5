"""``mrigen info`` and ``mrigen doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mrigen.errors import one_line

RAMP = " .:-=+*#%@"
MOST_COLUMNS = 80
MOST_NUMBERS = 8


def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Raw k-space, images, a store, a model folder, a run or a checkpoint."
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, without the picture.")] = False,
    png: Annotated[Path | None, typer.Option(help="Write the picture there, not to the terminal.")] = None,
    reader: Annotated[str, typer.Option(help="Format of raw k-space, by default seen by its content.")] = "",
    choose: Annotated[
        str,
        typer.Option(help="Of several repetitions, contrasts, sets, frames or echoes; by default the first."),
    ] = "",
) -> None:
    """Show what a file is: sizes, sampling, acceleration, ACS, coils, noise, orientation, a picture.

    Stores, models and runs are checked against their checksums; exit code 1 where something is damaged.

    Try:

    - `mrigen info scan.h5`

    - `mrigen info meas.dat --png look.png --json`
    """
    from mrigen.errors import UsageError, one_line
    from mrigen.reconstruction.info import of_run

    summary = of_run(path)
    if summary is None:
        from mrigen.reconstruction.file_info import info as of_file  # with torch

        summary = of_file(path, reader, choose)
    if png is not None and summary.picture is None:
        raise UsageError(f"--png {png}: {path} has no picture; leave it out")
    if as_json:
        typer.echo(json.dumps(summary.facts, indent=2, ensure_ascii=False))
    else:
        for name, value in summary.facts.items():
            for line in _lines(value, ", " if name.endswith(("per_coil", "affine_ras")) else " x "):
                typer.echo(f"{name.replace('_', ' '):>22}  {one_line(line)}")
        for fault in summary.faults:
            typer.echo(one_line(fault))
    if png is not None:
        _write(summary.picture, png)
    elif summary.picture is not None and not as_json:
        typer.echo(_text(summary.picture))
    if summary.faults:
        raise typer.Exit(1)


def _lines(value: Any, between: str = " x ") -> list[str]:
    """A value as lines of text: notes and rows of matrices have one each."""
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        return [line for one in value for line in _lines(one)]
    if isinstance(value, list):
        more = f" ... ({len(value)})" if len(value) > MOST_NUMBERS else ""
        return [
            between.join(f"{v:g}" if isinstance(v, float) else str(v) for v in value[:MOST_NUMBERS]) + more
        ]
    if isinstance(value, dict):
        return [", ".join(f"{k} {v}" for k, v in value.items())]
    return [f"{value:g}" if isinstance(value, float) else str(value)]


def _grey(picture: Any) -> Any:
    """Between 0 and 1, the 99th percentile at 1."""
    import numpy as np

    values = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
    low, high = min(float(values.min()), 0.0), float(np.quantile(values, 0.99))
    return np.clip((values - low) / max(high - low, 1e-30), 0, 1)


def _text(picture: Any) -> str:
    """Letters for grey values, as wide as the terminal; a letter is twice as high as wide."""
    import shutil

    import numpy as np
    from PIL import Image

    grey = _grey(picture)
    height, width = grey.shape
    columns = max(8, min(shutil.get_terminal_size().columns - 2, MOST_COLUMNS, 2 * width))
    rows = max(4, round(columns * height / width / 2))
    small = np.asarray(Image.fromarray(grey).resize((columns, rows), Image.Resampling.BOX))
    index = np.minimum((small * len(RAMP)).astype(int), len(RAMP) - 1)
    return "\n".join("".join(RAMP[i] for i in row) for row in index)


def _write(picture: Any, path: Path) -> None:
    import numpy as np
    from PIL import Image

    from mrigen.files import atomic

    with atomic(path) as temporary:
        Image.fromarray((255 * _grey(picture)).round().astype(np.uint8)).save(temporary, format="PNG")


def doctor(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...", help="Stores, references, model folders, or run folders with all of them."
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show versions, devices and disks; check folders against their checksums.

    Exit code 1 where something is damaged.

    Examples:

    - what a bug report needs: `mrigen doctor`

    - a run that was copied from another machine: `mrigen doctor runs/demo/brain`
    """
    from mrigen.recipe import health

    if folders and as_json:
        faults = {str(path): f for folder in folders for path, f in health.check(folder).items()}
        typer.echo(json.dumps(faults, indent=2, ensure_ascii=False))
        if any(faults.values()):
            raise typer.Exit(1)
        return
    if folders:
        sound = [_report(path, faults) for folder in folders for path, faults in health.check(folder).items()]
        if not all(sound):
            raise typer.Exit(1)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    tables = {
        "Environment": health.environment(),
        "Devices": health.devices(),
        "Disks": health.disks(health.folders_in_use()),
    }
    if as_json:
        typer.echo(json.dumps({k.lower(): v for k, v in tables.items()}, indent=2, ensure_ascii=False))
        return
    for title, rows in tables.items():
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
