"""Quality against cost: students of one, two and four steps beside their teacher with few and many.

    python -m benchmarks.distillation_steps --recipe demo/brain --json steps.json --figure steps.png

One teacher; the teacher's points are its Heun sampler with other numbers of noise levels. The same command
continues what was interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.ablations import Ablations, one_line, parser, table
from benchmarks.arguments import new_file, whole

from mrigen.files import write_json

TEACHER_LEVELS = (2, 5, 9, 18)


def teacher_rows(work: Ablations, levels: tuple[int, ...]) -> list[dict[str, Any]]:
    """The teacher sampled on coarser and finer grids."""
    rows = []
    for count in levels:
        evaluate = work.base.recipe.evaluate
        sampler = {**evaluate.sampler, "steps": count}
        evaluate = evaluate.model_copy(update={"sampler": sampler})
        work.base.recipe = work.base.recipe.model_copy(update={"evaluate": evaluate})
        made = work.sample(work.base, work.base.teacher_folder, work.out / f"teacher-{count}", 0.0)
        rows.append({"variation": f"teacher, {count} levels", "settings": [f"steps={count}"], **made})
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Distance over network evaluations, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for word, marker in (("teacher", "s"), ("student", "o")):
        points = sorted(
            (row["evaluations"], row["fd"])
            for row in rows
            if row["variation"].startswith(word) and "evaluations" in row
        )
        axes.plot(*zip(*points, strict=True), marker=marker, label=word)
    axes.set(xscale="log", yscale="log", xlabel="network evaluations per image", ylabel="Fréchet distance")
    axes.set_xticks([1, 2, 4, 8, 16, 32, 64])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.legend(loc="center right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=Path("runs/distillation-steps"))
    options.add_argument("--steps", type=whole, nargs="+", default=[1, 2, 4])
    options.add_argument("--levels", type=whole, nargs="+", default=TEACHER_LEVELS)
    options.add_argument("--figure", type=new_file)
    arguments = options.parse_args()
    work = Ablations(arguments.recipe, arguments.out, arguments.changes, arguments.device)
    work.check({f"{steps}": [f"distill.steps={steps}"] for steps in arguments.steps})
    work.teach()
    rows = teacher_rows(work, tuple(arguments.levels))
    for steps in arguments.steps:
        rows.append(work.student(f"student, {steps} step{'s' * (steps > 1)}", [f"distill.steps={steps}"]))
    rows = work.measure(rows)
    print(table(rows, work.base.recipe.evaluate.features))
    if arguments.json:
        write_json(arguments.json, rows)
    if arguments.figure and any("evaluations" in row for row in rows[len(arguments.levels) :]):
        draw(rows, arguments.figure)


if __name__ == "__main__":
    one_line(main)
