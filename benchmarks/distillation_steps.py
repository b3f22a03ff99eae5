"""Quality against cost: students of one, two and four steps, one network for all, and their teacher.

    python -m benchmarks.distillation_steps --recipe demo/brain --json steps.json --figure steps.png

One teacher, the best lap's where the recipe has laps; the teacher's points are its Heun sampler with other
numbers of noise levels. The student of the most steps is also ended after fewer: one network for all numbers
of steps (its training ends after a random step too). Every seed has its own data, teacher and students. The
same command continues what was interrupted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ablations import Ablations, of_seed, one_line, parser, rows_of_seeds
from benchmarks.arguments import new_file, whole, whole_or_zero
from benchmarks.result_tables import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEACHER_LEVELS = (2, 5, 9, 18)
ONE = "one network"
KEPT = ("seed", "recipe", "variation", "fd", "high_frequency_ratio", "evaluations", "seconds_per_1000", "n")


def words(count: int) -> str:
    """A number of steps."""
    return f"{count} step{'s' * (count > 1)}"


def teacher_rows(work: Ablations, levels: list[int]) -> list[dict[str, Any]]:
    """The teacher sampled on coarser and finer grids."""
    base, rows = work.base, []
    original = base.recipe
    for count in levels:
        sampler = {**original.evaluate.sampler, "steps": count}
        evaluate = original.evaluate.model_copy(update={"sampler": sampler})
        base.recipe = original.model_copy(update={"evaluate": evaluate})
        made = work.sample(base, base.best_teacher_folder, work.out / f"teacher-{count}", 0.0)
        rows.append({"variation": f"teacher, {count} levels", **made})
    base.recipe = original
    return rows


def compared(options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Rows of one seed."""
    name, work = options.recipe, of_seed(options, seed)
    settings = {count: [f"distill.steps={count}"] for count in sorted(set(options.steps))}
    work.check({words(count): each for count, each in settings.items()})
    work.teach()
    rows = teacher_rows(work, options.levels)
    rows += [work.student(f"student, {words(count)}", each) for count, each in settings.items()]
    *fewer, most = settings
    if fewer and "diverged" not in rows[-1]:
        study = work.student_study(f"student, {words(most)}", settings[most])
        for count in fewer:
            folder = study.out / f"after-{count}"
            made = work.sample(study, study.student_folder, folder, 0.0, after=count)
            rows.append({"variation": f"{ONE}, {words(count)}", **made})
    measured = [{**row, "seed": seed, "recipe": name} for row in work.measure(rows)]
    return [{key: row[key] for key in KEPT if key in row} for row in measured]


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds."""
    lines = [
        "| recipe | seeds | | evaluations | Fréchet distance | power beyond N/4 | s per 1,000 |",
        "|---" * 7 + "|",
    ]
    for recipe, name in dict.fromkeys((row["recipe"], row["variation"]) for row in rows):
        same = [row for row in rows if (row["recipe"], row["variation"]) == (recipe, name)]
        if any(row.get("fd") is None for row in same):
            lines.append(f"| {recipe} | {len(same)} | {name} | | diverged | | |")
            continue
        distance, power = (spread([row[key] for row in same]) for key in ("fd", "high_frequency_ratio"))
        seconds = sum(row["seconds_per_1000"] for row in same) / len(same)
        cells = [recipe, len(same), name, same[0]["evaluations"], distance, power, f"{seconds:.2g}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def series(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Evaluations and mean distances of the teacher, of students for their number, and of one for all."""
    whole: dict[str, list[tuple[int, float]]] = {}
    for name in dict.fromkeys(row["variation"] for row in rows if row.get("fd") is not None):
        same = [row for row in rows if row["variation"] == name and row.get("fd") is not None]
        point = (same[0]["evaluations"], sum(row["fd"] for row in same) / len(same))
        whole.setdefault(name.partition(",")[0], []).append(point)
    if ONE in whole:
        whole[ONE].append(max(whole["student"]))
    return {name: sorted(points) for name, points in whole.items()}


def draw(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Distance over network evaluations, both axes logarithmic."""
    from matplotlib.ticker import LogLocator

    labels = {"teacher": "teacher", "student": "a student for each number", ONE: "one student for all"}
    markers = dict(zip(labels, "sox", strict=True))
    for name, points in series(rows).items():
        style = "--" if name == ONE else "-"
        axes.plot(*zip(*points, strict=True), marker=markers[name], linestyle=style, label=labels[name])
    axes.set(xscale="log", yscale="log", xlabel="network evaluations per image", ylabel="Fréchet distance")
    axes.set_xticks([1, 2, 4, 8, 16, 32, 64])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.legend()


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--out", type=Path, default=Path("runs/distillation-steps"))
    made.add_argument("--steps", type=whole, nargs="+", default=[1, 2, 4])
    made.add_argument("--levels", type=whole, nargs="+", default=TEACHER_LEVELS)
    made.add_argument("--seeds", type=whole_or_zero, nargs="+", default=[0])
    made.add_argument("--figure", type=new_file)
    options = made.parse_args()
    rows = rows_of_seeds(options, compared, table)
    if options.figure and "student" in series(rows):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.5), layout="constrained")
        draw(figure.subplots(), rows)
        figure.savefig(options.figure, dpi=150)


if __name__ == "__main__":
    one_line(main)
