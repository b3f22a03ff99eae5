"""``mrigen sample``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Precision(StrEnum):
    """What a network computes in."""

    single = "32-true"
    bfloat16 = "bf16-mixed"


def sample(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="Model folder of a generator or a teacher. RUN/teacher and RUN/student are their newest "
            "model, a snapshot while they are trained; RUN is the student, or the teacher until there is one."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="`FILE.h5` (floats), `FILE.npz`, `FILE.zip` of PNG, or a folder: of PNG for natural images, "
            "of complex HDF5 and NIfTI magnitudes for MRI. A picture of the first images goes beside it."
        ),
    ],
    seeds: Annotated[str, typer.Option(help="Seeds, one image each: 0-49999 or 3,5,8.")] = "0-63",
    maps: Annotated[
        Path | None, typer.Option(help="Measurement store with coil maps; MRI teachers need one.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Sampler of a teacher: heun (the default), another of `mrigen list samplers`, or "
            "`mine.py:Class`."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Noise levels of a teacher's sampler, 18 by default; or the step of a generator of several "
            "after which it ends, by default the last.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Other settings of a teacher's sampler, as in a recipe: `--set stop=0.2`, `--set clip=1`, "
            "`--set grid.sigma_min=0.02`.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images per network call; by default 64, on a GPU 512, or fewer that fit."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of the network: float32, or bfloat16 where the device is made for it.")
    ] = Precision.single,
) -> None:
    """Make images from seeds: in one step or a few by a generator, in many by a teacher.

    The same seed gives the same image, whatever the batch. An interrupted command continues where it stopped.
    Under torchrun the processes share the seeds.

    Examples:

    - `mrigen sample runs/demo/brain/student/model --seeds 0-999 --out student.h5`

    - pictures, for a FID for example: `mrigen sample GENERATOR --seeds 0-49999 --out samples.zip`

    - `mrigen sample runs/demo/brain/teacher/model --maps runs/demo/brain/store --out teacher.h5`

    - a teacher that is still trained, or was interrupted: `mrigen sample RUN/teacher --maps STORE --out a.h5`

    - a teacher, stopped at σ = 0.2: `mrigen sample TEACHER --steps 40 --set stop=0.2 --out teacher.zip`
    """
    from mrigen import ranks
    from mrigen.model import Model
    from mrigen.recipe.sampling import sample_model

    model = Model.load(checkpoint)
    if model.folder != checkpoint and ranks.rank() == 0:
        typer.echo(f"model: {model.title}")
    options = {"name": sampler, "steps": steps}
    spec = {key: value for key, value in options.items() if value is not None}
    written = sample_model(model, out, seeds, maps, batch, device, precision.value, spec, set_ or [])
    if ranks.rank() == 0:
        for kind, path in written.items():
            typer.echo(f"{kind}: {path}")
