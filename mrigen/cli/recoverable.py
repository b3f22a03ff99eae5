"""``mrigen recoverable``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mrigen.operators import Corruption


def recoverable(
    source: Annotated[
        str,
        typer.Argument(
            metavar="STORE|RECIPE|OPERATOR",
            help="A measurement store, a recipe, or an operator in words: `inpainting:missing=0.8`.",
        ),
    ],
    *,
    shape: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="C H W", help="Shape of an image; of a recipe and an operator."),
    ] = None,
    split: Annotated[str, typer.Option(help="Part of a store; `all` for all of it.")] = "train",
    draws: Annotated[int, typer.Option(min=1, help="Operators that are drawn at most.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Key of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of sentences.")] = False,
) -> None:
    """Whether measurements of this kind determine the distribution of images, before any training.

    Exit code 1 where they do not.

    Examples:

    - `mrigen recoverable runs/demo/brain/store`

    - a recipe whose data are not prepared: `mrigen recoverable fastmri/brain-r8 --shape 1 384 320`

    - an operator: `mrigen recoverable missing-box:size=8,position=centre --shape 1 32 32`

    What no operator measures cannot be learnt: these pixels, or lines of k-space, are named. Directions that
    are measured, but never together, leave the covariance open. Lines are numbered from 0, with DC at W // 2.
    """
    from mrigen.operators import recoverability

    corruption, noise = _corruption(source, shape, None if split == "all" else split)
    answer = recoverability(corruption, noise=noise, draws=draws, seed=seed)
    if as_json:
        row: dict[str, Any] = {"recoverable": answer.verdict, **asdict(answer), "reasons": answer.reasons}
        typer.echo(json.dumps(row, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{source}: recoverable: {answer.verdict}")
        for line in answer.reasons:
            typer.echo(f"  {line}")
    if answer.verdict == "no":
        raise typer.Exit(1)


def _corruption(
    source: str, shape: tuple[int, int, int] | None, split: str | None
) -> tuple[Corruption, bool]:
    """The corruption, and whether its noise level is known.

    Raises:
        UsageError: it is none of these, or has no shape.
    """
    from mrigen import recipe as recipes
    from mrigen.data.manifest import NAME
    from mrigen.data.stores import open_store
    from mrigen.errors import UsageError
    from mrigen.operators import CORRUPTIONS, make_corruption
    from mrigen.recipe.prepare import expected_corruption

    if (Path(source) / NAME).is_file():
        if shape is not None:
            raise UsageError(f"{source}: is a store, which has its shape; leave out --shape")
        store = open_store(source, split)
        estimate = getattr(store.manifest, "estimate", None)
        return store.corruption(), estimate is None
    words = CORRUPTIONS.parse(source)
    if words["name"] in CORRUPTIONS.names() or ".py:" in source:
        if shape is None:
            raise UsageError(f"{source}: is an operator, and needs the images' --shape C H W")
        return make_corruption(CORRUPTIONS.freeze(words), shape), True
    return expected_corruption(recipes.load(source).data, shape)
