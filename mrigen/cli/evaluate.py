"""``mrigen evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    samples: Annotated[list[Path], typer.Argument(help="Files written by `mrigen sample`.")],
    reference: Annotated[Path, typer.Option(help="Reference folder written by `mrigen prep-fastmri`.")],
    split: Annotated[str, typer.Option(help="Part of the references to compare with.")] = "test",
    features: Annotated[str, typer.Option(help="Feature extractor of the distance.")] = "random-vgg16-r64",
    out: Annotated[Path | None, typer.Option(help="JSON file for the numbers.")] = None,
) -> None:
    """Fréchet distance of generated images from held-out references.

    The default features are a random VGG16 with 64 outputs: no download, and no FID either; compare its
    numbers only with each other, at the same number of samples.

    Example: `mrigen evaluate student.h5 teacher.h5 --reference runs/demo/brain/store-reference`
    """
    from rich.console import Console
    from rich.table import Table

    from mrigen.files import write_json
    from mrigen.recipe.comparison import compare

    results = compare(samples, reference, split, features)
    table = Table(title=f"Fréchet distance in {features} features")
    for column in ("samples", "distance", "n", "references"):
        table.add_column(column, justify="left" if column == "samples" else "right")
    for row in results:
        table.add_row(row["samples"], f"{row['fd']:.4g}", str(row["n"]), str(row["references"]))
    Console().print(table)
    if out is not None:
        write_json(out, {"features": features, "split": split, "results": results})
