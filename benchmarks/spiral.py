"""Points of a spiral when the assumed noise level is too low, right or too high (DCD, figures 2 and 15).

    python -m benchmarks.spiral --out runs/spiral --json spiral.json --figure benchmarks/figures/spiral.png

The data are those of the recipe, σ = 0.05. For each --sigma teacher and student are told that σ̂
(`data.images.stated_noise`) and everything else is the same; with the true one this is `mrigen run
toy/spiral`. The same command continues what was interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.arguments import new_file, positive
from rich.console import Console

from mrigen import recipe as recipes
from mrigen.data.images import read_images
from mrigen.data.stores import open_store
from mrigen.files import write_json
from mrigen.metrics.reference import open_reference
from mrigen.recipe.study import Study
from mrigen.report.figures import panel, save
from mrigen.tensors import evenly_spaced

RECIPE = "toy/spiral"
TRUE = 0.05
KINDS = {
    "observation": "noisy data",
    "teacher-full": "teacher, full",
    "teacher": "teacher, truncated",
    "student": "student",
}


def run(sigma: float, out: Path, changes: list[str], device: str) -> tuple[dict[str, Any], Study]:
    """The study that assumes σ̂, whose data are those of the true σ and whose references are the same."""
    stated = [] if sigma == TRUE else [f"data.images.stated_noise={sigma:g}"]
    recipe = recipes.load(RECIPE, [*changes, *stated])
    study = Study(recipe, out / f"sigma-{sigma:g}", Console(stderr=True), device)
    return study.run(), study


def table(summaries: dict[float, dict[str, Any]]) -> str:
    """One line per kind of points and assumed σ̂."""
    count = next(iter(summaries.values()))["n"]
    radius = recipes.load(RECIPE).evaluate.radius
    lines = [
        f"mean distance from the curve, part of it within {radius:g} of a sample (n = {count}, σ = {TRUE:g})",
        "| | " + " | ".join(f"σ̂ = {sigma:g}" for sigma in summaries) + " |",
        "|---" * (1 + len(summaries)) + "|",
    ]
    for kind, words in KINDS.items():
        cells = (f"{s[kind]['distance']:.4f}, {100 * s[kind]['coverage']:.1f} %" for s in summaries.values())
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(studies: dict[float, Study], path: Path) -> None:
    """Rows of σ̂, columns of data, teachers and student, over the true curve; the distance above each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(KINDS), 2.5 * len(studies)), layout="constrained")
    grid = figure.subplots(len(studies), len(KINDS), squeeze=False)
    for line, (sigma, study) in zip(grid, studies.items(), strict=True):
        references = open_reference(study.reference_folder, study.recipe.evaluate.split)
        truth = references.images(list(range(len(references)))).flatten(1)
        summary = json.loads((study.out / "summary.json").read_text(encoding="utf-8"))
        reach = 1.2 * float(truth.abs().max())
        for axes, (kind, words) in zip(line, KINDS.items(), strict=True):
            if kind == "observation":
                store = open_store(study.store_folder)
                points = store.measurements(evenly_spaced(len(store), summary["n"])).y
            else:
                points = next(read_images(study.out / "samples" / kind / "images.h5", summary["n"]))
            panel(axes, truth.numpy(), reach, s=0.5, color="0.7", alpha=1)
            panel(axes, points.flatten(1).numpy(), reach)
            axes.set_title(f"{words}: {summary[kind]['distance']:.4f}", fontsize=9)
        word = "exact" if sigma == TRUE else "too low" if sigma < TRUE else "too high"
        line[0].set_ylabel(f"σ̂ = {sigma:g} ({word})", fontsize=10)
    figure.suptitle(f"Spiral with noise of σ = {TRUE:g}; mean distance from the curve (grey)", fontsize=11)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sigma", type=positive, nargs="+", default=[0.03, TRUE, 0.07])
    parser.add_argument("--out", type=Path, default=Path("runs/spiral"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--figure", type=new_file)
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    done = {
        sigma: run(sigma, arguments.out, arguments.changes, arguments.device) for sigma in arguments.sigma
    }
    summaries = {sigma: summary for sigma, (summary, _) in done.items()}
    print(table(summaries))
    if arguments.json:
        write_json(arguments.json, {f"{sigma:g}": summary for sigma, summary in summaries.items()})
    if arguments.figure:
        draw({sigma: study for sigma, (_, study) in done.items()}, arguments.figure)


if __name__ == "__main__":
    main()
