"""Score distillation with and without its adversarial term: same teacher, images, seeds and references.

    python -m benchmarks.adversarial --recipe toy/digits-inpaint --out runs/adversarial --json rows.json

For every seed the recipe's data, teacher and laps are made once, and the teacher is distilled as the recipe
says but without ``distill.loss.adversary``, and again with that of every ``--weight``. The selection metric,
which sees measurements only, chooses all generators. The table has their distances, the ratios, the power
beyond a quarter of the pixels over the references' and the proximal distance of the selection. The same
command continues what was interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.ablations import of_seed, one_line, parser, rows_of_seeds
from benchmarks.arguments import positive, whole_or_zero
from benchmarks.method_stages import PHOTOGRAPHS
from benchmarks.result_tables import spread

TEACHER, PLAIN = "teacher", "student"
KEPT = ("seed", "recipe", "variation", "fd", "fd_r64", "high_frequency_ratio", "proximal", "images", "n")


def compared(options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Rows of one seed: the teacher that is distilled, and both students."""
    name, work = options.recipe, of_seed(options, seed)
    students = {PLAIN: ["distill.loss.adversary=null"]}
    for weight in options.weight:
        adversary = {"weight": weight, "fake_weight": options.fake_weight}
        students[f"student, adversary {weight:g}"] = [f"distill.loss.adversary={json.dumps(adversary)}"]
    work.check(students)
    work.teach()
    base, folder = work.base, work.out / "distilled-teacher"
    sampled = work.sample(base, base.best_teacher_folder, folder, 0.0, dict(base.recipe.evaluate.sampler))
    rows = [{"variation": TEACHER, **sampled}]
    rows += [work.student(variation, settings) for variation, settings in students.items()]
    whole = [{**row, "seed": seed, "recipe": name} for row in work.measure(rows)]
    return [{key: row[key] for key in KEPT if key in row} for row in whole]


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds of every recipe, and the paired ratios."""
    words = ["recipe", "seeds", "", "Fréchet distance", "R64", "power beyond N/4", "proximal distance"]
    words += ["over the student's", "in R64"]
    lines = [f"| {' | '.join(words)} |", "|---" * len(words) + "|"]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        own = [row for row in rows if row["recipe"] == recipe]
        plain = {row["seed"]: row for row in own if row["variation"] == PLAIN}
        for name in dict.fromkeys(row["variation"] for row in own):
            same = [row for row in own if row["variation"] == name]
            if any(row.get("fd") is None for row in same):
                lines.append(f"| {recipe} | {len(same)} | {name} | diverged | | | | | |")
                continue
            keys = ("fd", "fd_r64", "high_frequency_ratio", "proximal")
            values = [[row[key] for row in same if row.get(key) is not None] for key in keys]
            if name not in (TEACHER, PLAIN):
                pairs = [(row, plain[row["seed"]]) for row in same]
                values += [[x[k] / y[k] for x, y in pairs if x.get(k) and y.get(k)] for k in keys[:2]]
            cells = [spread(each) if each else "" for each in values] + [""] * (6 - len(values))
            lines.append(f"| {recipe} | {len(same)} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--out", type=Path, default=Path("runs/adversarial"))
    made.add_argument("--seeds", type=whole_or_zero, nargs="+", default=[0, 1, 2])
    made.add_argument("--weight", type=positive, nargs="+", default=[0.05])
    made.add_argument("--fake-weight", type=positive, default=0.3)
    made.add_argument(
        "--small", action="store_true", help="photographs: as benchmarks.methods, for two cores"
    )
    options = made.parse_args()
    options.changes = [*(PHOTOGRAPHS if options.small else ()), *options.changes]
    rows_of_seeds(options, compared, table)


if __name__ == "__main__":
    one_line(main)
