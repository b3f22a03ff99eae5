"""``mrigen sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    checkpoint: Annotated[Path, typer.Argument(help="Model folder of a generator or a teacher.")],
    out: Annotated[
        Path, typer.Option(help="HDF5 file for the images; a PNG of the first ones goes beside it.")
    ],
    seeds: Annotated[str, typer.Option(help="Seeds, one image each: 0-49999 or 3,5,8.")] = "0-63",
    maps: Annotated[
        Path | None, typer.Option(help="Measurement store with coil maps; MRI teachers need one.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Noise levels of a teacher's Heun sampler.")] = 18,
    batch: Annotated[int, typer.Option(min=1, help="Images per network call.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Make images from seeds: in one step by a generator, in many by a teacher.

    The same seed gives the same image, whatever the batch.

    Examples:

    - `mrigen sample runs/demo/brain/student/model --seeds 0-999 --out student.h5`

    - `mrigen sample runs/demo/brain/teacher/model --maps runs/demo/brain/store --out teacher.h5`
    """
    from mrigen.recipe.sampling import sample_model

    sample_model(checkpoint, out, seeds, maps, steps, batch, device)
    typer.echo(f"images: {out}\npicture: {out.with_suffix('.png')}")
