"""``mrigen export``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """File formats of other programs."""

    safetensors = "safetensors"
    torchscript = "torchscript"
    onnx = "onnx"


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")],
    to: Annotated[Kind, typer.Option("--to", help="File format.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
) -> None:
    """Write a generator for other programs: z (standard normal) in, image out."""
    from mrigen.checkpoints.export import export as run
    from mrigen.checkpoints.snapshots import find_model
    from mrigen.errors import UsageError

    if out.is_dir():
        raise UsageError(f"{out} is a folder: give the file to write")
    difference = run(find_model(model), to.value, out)
    typer.echo(f"wrote {out}" + ("" if difference is None else f", within {difference:.1g} of {model}"))
