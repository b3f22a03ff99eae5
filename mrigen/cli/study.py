"""``mrigen run``, ``train`` and ``distill``: the stages of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mrigen.recipe.study import Study

Recipe = Annotated[
    str, typer.Argument(help="A shipped recipe's name (`mrigen recipes list`) or a YAML file.")
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder; by default runs/RECIPE. The same command continues it.")
]
Data = Annotated[
    Path | None,
    typer.Option(help="A measurement store from `mrigen prep-fastmri`, instead of the recipe's data."),
]
Reference = Annotated[
    Path | None, typer.Option(help="Its references for evaluation; by default the folder beside the store.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, checked: `--set teacher.batch=32`."),
]
Seed = Annotated[int | None, typer.Option(help="Key of all randomness, instead of the recipe's.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]


def run(
    recipe: Recipe,
    out: Out = None,
    data: Data = None,
    reference: Reference = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Run all stages of a recipe: prepare, train, distil, evaluate; finished ones are skipped.

    Examples:

    - the demo, on two CPU cores: `mrigen run demo/brain`

    - another seed: `mrigen run demo/brain --seed 1 --out runs/brain-seed1`

    - own data: `mrigen run fastmri/brain-r4 --data prepared`
    """
    _study(recipe, out, data, reference, set_, seed, device).run()


def train(
    recipe: Recipe,
    out: Out = None,
    data: Data = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Train the corruption-aware teacher of a recipe on measurements alone.

    An interrupted run continues where it stopped.

    Examples:

    - `mrigen train fastmri/brain-r4 --data prepared --out runs/r4`

    - a smaller batch: `mrigen train fastmri/brain-r4 --data prepared --set teacher.batch=4`
    """
    study = _study(recipe, out, data, None, set_, seed, device)
    study.prepare()
    study.train()
    study.console.print(f"teacher: {study.teacher_folder}", highlight=False)


def distill(
    recipe: Recipe,
    out: Out = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Model folder of a given teacher; by default the run folder's own.")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="Measurement store that coil maps and masks are taken from.")
    ] = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Distil a teacher into a one-step generator under the same corruption.

    Examples:

    - after `mrigen train`: `mrigen distill fastmri/brain-r4 --maps prepared --out runs/r4`

    - a released teacher: `mrigen distill fastmri/brain-r4 --teacher imported --maps prepared`
    """
    study = _study(recipe, out, maps, None, set_, seed, device, teacher)
    study.prepare()
    study.train()
    study.distill()
    study.console.print(f"generator: {study.student_folder}", highlight=False)
    study.console.print(
        f"next: mrigen sample {study.student_folder} --seeds 0-99 --out samples.h5", highlight=False
    )


def _study(
    recipe: str,
    out: Path | None,
    store: Path | None,
    reference: Path | None,
    overrides: list[str] | None,
    seed: int | None,
    device: str,
    teacher: Path | None = None,
) -> Study:
    from rich.console import Console

    from mrigen import recipe as recipes
    from mrigen.recipe.study import Study

    settings = [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
    loaded = recipes.load(recipe, settings)
    folder = out if out is not None else Path("runs") / loaded.name
    return Study(loaded, folder, Console(), device, teacher, store, reference)
