"""``mrigen import-checkpoint`` and ``mrigen export``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Role(StrEnum):
    """What an imported network is used as."""

    teacher = "teacher"
    generator = "generator"


def import_checkpoint(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Released .pkl, .pt or .safetensors file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Model folder to write.")],
    options: Annotated[
        Path | None,
        typer.Option(help="The authors' training_options.json  [default: the one beside SRC]."),
    ] = None,
    role: Annotated[
        Role | None, typer.Option(help="Use it as this  [default: what the file suggests].")
    ] = None,
    sigma_init: Annotated[
        float, typer.Option(help="Noise level at which a generator is called.", min=1e-6)
    ] = 2.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is in OUT.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Turn a released EDM, Ambient or SiD checkpoint, or an export of mrigen, into a model folder.

    Nothing of it is executed.

    Examples:

    - `mrigen import-checkpoint network-snapshot.pkl imported`

    - a state of torch.save without its options: `mrigen import-checkpoint state.pt imported --options
      training_options.json`
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mrigen.checkpoints.description import DESCRIPTION
    from mrigen.checkpoints.importer import import_checkpoint as run
    from mrigen.checkpoints.summary import summary
    from mrigen.errors import UsageError

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: give a folder to write the model to")
    if (out / DESCRIPTION).exists() and not overwrite:
        raise UsageError(f"{out} holds a model already: give another folder, or --overwrite")
    imported = run(source, out, options, role=None if role is None else role.value, sigma_init=sigma_init)
    rows = summary(imported, out)
    if as_json:
        typer.echo(json.dumps(dict(rows), indent=2, ensure_ascii=False))
        return
    table = Table(show_header=False, box=None)
    for label, text in rows:
        table.add_row(Text(label, style="bold"), Text(text, overflow="fold"))
    Console().print(table)


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
    """Write a generator for other programs: z (standard normal) in, image out.

    Examples:

    - `mrigen export runs/demo/brain/student/model --to onnx --out generator.onnx`
    """
    from mrigen.checkpoints.export import export as run
    from mrigen.checkpoints.snapshots import find_model
    from mrigen.errors import UsageError

    if out.is_dir():
        raise UsageError(f"{out} is a folder: give the file to write")
    difference = run(find_model(model), to.value, out)
    typer.echo(f"wrote {out}" + ("" if difference is None else f", within {difference:.1g} of {model}"))
