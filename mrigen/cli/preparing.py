"""Options that the commands which write data share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mrigen.errors import UsageError

DATA = "Data"

Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; by default as many as are worth starting.")]
DaskScheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Use the workers of a Dask cluster, `tcp://HOST:8786`, which see the same folders; `local` "
        "starts one here. Needs mrigen[dask].",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]
NoReferences = Annotated[bool, typer.Option("--no-references", help="Write none.", rich_help_panel=DATA)]


def chosen_references(references: Path | None, *, none: bool) -> Path | Literal["beside"] | None:
    """Where references go: into a folder of their own, or beside the store, or nowhere.

    Raises:
        UsageError: both a folder and none are wanted.
    """
    if none and references is not None:
        raise UsageError("give --references or --no-references, not both")
    return None if none else references or "beside"
