"""``mrigen models`` and ``mrigen publish``: models with cards, in folders and at web addresses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mrigen.checkpoints.hub import Card


def models(
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR_OR_URL]",
            help="A folder of model folders, or the web address of one; by default what the package ships "
            "and what was downloaded.",
        ),
    ] = None,
    *,
    get: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Fetch this model of a web address; then its name is enough."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Open a connection; a web address needs it.")
    ] = False,
    index: Annotated[
        bool,
        typer.Option("--index", help="Write DIR/models.json, so that DIR works at a static web address."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models with their cards: data, corruption, numbers with n, licence, checksum.

    Wherever a command takes a model, the name of a shipped or downloaded one will do. Files of a web address
    are checked against the SHA-256 of its index; nothing of them is executed.

    Examples:

    - what the package ships: `mrigen models`, then `mrigen sample demo-brain --out first`

    - a group's folder: `mrigen models /data/models`

    - a web address: `mrigen models https://example.org/models --download --get NAME`
    """
    from mrigen.checkpoints import hub
    from mrigen.errors import UsageError

    if where is not None and hub.is_address(where):
        if index:
            raise UsageError("--index: writes into a folder; give the folder, not its web address")
        if not download:
            raise UsageError(f"{where}: add --download to open a connection")
        if get is not None:
            typer.echo(f"model: {hub.download(where, get)}")
            return
        _show({name: (f"{where}: {name}", card) for name, card in hub.remote_models(where).items()}, as_json)
        return
    if get is not None or download:
        raise UsageError("--get and --download: belong to a web address, mrigen models https://...")
    if index:
        if where is None:
            raise UsageError("--index: give the folder of model folders")
        typer.echo(f"{Path(where) / hub.INDEX}: {', '.join(hub.write_index(Path(where))) or 'no models'}")
        return
    folders = [Path(where)] if where is not None else [hub.shipped(), hub.downloaded()]
    shown = {}
    for folder in folders:
        if where is not None or folder.is_dir():
            known = hub.models_in(folder)
            shown.update({n: (str(folder / n), card) for n, card in known.items() if n not in shown})
    _show(shown, as_json)


def publish(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Model folder, or RUN, whose numbers go into the card.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder HUB/NAME to write, with card.json and picture.png.")
    ],
    *,
    data: Annotated[str, typer.Option(help="What the model learned from, in a sentence.")],
    licence: Annotated[str, typer.Option(help="Of the weights, such as CC-BY-4.0.")],
    title: Annotated[str | None, typer.Option(help="One line; by default role and recipe.")] = None,
    corruption: Annotated[
        str | None, typer.Option(help="Of the data, in a sentence; by default as the model has it.")
    ] = None,
    note: Annotated[
        list[str] | None, typer.Option(help="A limit that users should know; may be given several times.")
    ] = None,
) -> None:
    """Copy a model into a hub's folder, with a card and a picture.

    Examples:

    - `mrigen publish runs/demo/brain models/brain --data "simulated slices of Colin27" --licence Apache-2.0`

    - then, to put the folder on a web server: `mrigen models models --index`
    """
    from mrigen.recipe.publish import publish as run

    card = run(
        model,
        out,
        data=data,
        licence=licence,
        title=title,
        corruption=corruption,
        notes=tuple(note or ()),
    )
    typer.echo(f"{out}: {card.title}, {len(card.numbers)} numbers")


def _show(models: Mapping[str, tuple[str, Card | None]], as_json: bool) -> None:
    if as_json:
        rows = {
            name: {"folder": folder, "card": card.model_dump(mode="json") if card is not None else None}
            for name, (folder, card) in models.items()
        }
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not models:
        typer.echo("no models here")
    for name, (folder, card) in models.items():
        if card is None:
            typer.echo(f"{name}\n  no card; {folder}")
            continue
        typer.echo(f"{name}\n  {card.title}")
        lines = {"data": card.data, "corruption": card.corruption, "made by": card.command}
        for n in card.numbers:
            beside = {"corrupted data": n.observation, "other references": n.floor}
            others = ", ".join(f"{k} {v:.4g}" for k, v in beside.items() if v is not None)
            lines[n.metric] = f"{n.value:.4g}, n = {n.n}" + (f" ({others})" if others else "")
        lines |= {"licence": card.licence, "SHA-256": card.weights_sha256, "folder": folder}
        lines |= {f"note {i}" if i > 1 else "note": text for i, text in enumerate(card.notes, 1)}
        for label, text in lines.items():
            if text:
                typer.echo(f"  {label}: {text}")
