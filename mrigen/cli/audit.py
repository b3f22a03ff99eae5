"""``mrigen audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def audit(
    samples: Annotated[
        Path, typer.Argument(help="Images: HDF5 of `mrigen sample`, folder or zip of pictures, npz.")
    ],
    *,
    data: Annotated[
        Path,
        typer.Option(help="Measurement store that the model was trained on, or clean training images."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for audit.json, histogram.png and pairs.png.")],
    baseline: Annotated[
        Path | None, typer.Option(help="Images that were not trained on, for the same histogram.")
    ] = None,
    features: Annotated[
        str, typer.Option(help="correlation, or dinov2, inception, r64, pixels: cosine of features.")
    ] = "correlation",
    weights: Annotated[Path | None, typer.Option(help="File of the weights of --features.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch missing weights.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps; for --features.")] = "auto",
) -> None:
    """Whether generated images copy training data: the nearest training measurement of each.

    Image and measurement are compared through the measurement's own operator, mirrored and shifted, so that
    corrupted data can be searched. A histogram far to the right of the baseline's means copies.

    Examples:

    - `mrigen audit student.h5 --data runs/demo/brain/store --out audit`

    - with images nobody trained on beside it: `mrigen audit samples.zip --data store --baseline test.zip
      --out audit`
    """
    from rich.console import Console

    from mrigen.recipe.audit import audit as run
    from mrigen.report.tables import rows_table

    found = run(samples, data, out, baseline, features, weights, download=download, device=device)
    rows = [{"set": name, **found[name]} for name in ("samples", "baseline") if name in found]
    if baseline is not None:
        rows[1]["set"] = str(baseline)
    rows[0]["set"] = str(samples)
    console = Console()
    console.print(rows_table(rows, f"Similarity ({features}) of the nearest of {found['training']}"))
    console.print(f"numbers: {out / 'audit.json'}\npairs: {out / 'pairs.png'}", highlight=False)
