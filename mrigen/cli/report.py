"""``mrigen report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_RECONSTRUCTION", help="Folder of `mrigen run` or of `mrigen reconstruct`."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write; by default report.html in the folder.")
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Baselines in the same tables and panels: runs measured with the same references, or "
            "reconstructions of the same data. Repeatable.",
        ),
    ] = None,
) -> None:
    """Write one HTML page that needs no network: what was done, numbers, curves, samples, slices, command.

    Slices scroll and windows change by keyboard, wheel or sliders; the page can be printed, and is at most 10
    MB. `mrigen run` writes it at its end.

    Examples:

    - `mrigen report runs/demo/brain`

    - `mrigen report posterior --beside sparse --beside sense --out posterior.html`
    """
    from mrigen.errors import UsageError
    from mrigen.recipe.page import NAME
    from mrigen.recipe.page import write_page as write_run
    from mrigen.reconstruction.page import FILE
    from mrigen.reconstruction.page import write_page as write_reconstruction

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give one of mrigen run or mrigen reconstruct")
    target = out if out is not None else folder / NAME
    write = write_reconstruction if (folder / FILE).is_file() else write_run
    typer.echo(f"report: {write(folder, target, beside or ())}")
