"""Few corrupted slices of a new head in a new contrast: a pretrained teacher trained on, or one from scratch.

    python -m benchmarks.fine_tuning --model runs/heads/seed-0/R4/base/teacher/model --work runs/fine-tuning

``--model`` is a teacher of other heads and contrasts, as ``benchmarks.heads`` makes (heads 1 to 14, T1 and
T2), or several of them, which are named after the folder of their stage (``teacher``, ``lap-1``). The
new data are 25 slices of one other head as proton density, R = 4, 32 x 32. All trainings see them equally
often and have the recipe's network and schedule, of whose learning rate fine-tuning takes the ``--rates``.
Rows: PSNR and SSIM of slices of two further heads in the new contrast, restored in one step (with a model of
whole images, such as a lap's, by plug-and-play), and distances of generated images from theirs (random VGG16
features, 48 principal components of the head), the same number n of images for all. Asked for: 1 dB more and
half of the distance.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import existing, new_file, positive, whole
from benchmarks.heads import (
    COLIN,
    HEADS,
    PARTS,
    PLACES,
    SMOKE,
    Case,
    Plan,
    keep_row,
    known_rows,
    spent,
    taken,
)
from benchmarks.self_supervised import CLASSICAL, Slices, line_of, quality, solve
from rich.console import Console

from mrigen import recipe as recipes
from mrigen.errors import UsageError
from mrigen.model import Model
from mrigen.recipe.study import Study

ONE_STEP, PLUG_AND_PLAY = "ambient-one-step:spread=0.05", "pnp"
TUNED, SCRATCH = "fine-tuned", "from scratch"
METRICS = {"r64": "R64", "fd_pca_head": "48 components, head"}
FEW = 25


@dataclass(frozen=True)
class Start:
    """Where a row's model comes from.

    Attributes:
        model: pretrained; None for random weights.
        rate: part of the recipe's learning rate that it is trained with; 0 for a model as it is.
    """

    model: Path | None = None
    rate: float = 1.0


def starts(models: list[Path], rates: list[float]) -> dict[str, Start]:
    """The rows of networks by their names."""
    named = {path.resolve().parent.name: path for path in models}
    if len(named) < len(models):
        raise UsageError(
            f"--model: two of the stage {next(iter(named))}; give models of stages of different names"
        )
    rows = {f"{name}, as it is": Start(path, 0) for name, path in named.items()}
    rows |= {
        f"{TUNED} {name}, rate x {rate:g}": Start(path, rate)
        for name, path in named.items()
        for rate in rates
    }
    return {**rows, SCRATCH: Start()}


class FineTuning:
    """Data, trainings and rows.

    Args:
        case: the few slices and the test heads.
        rows: of networks, by their names.
        images: length of every training.
        count: n.
        slices: test slices to restore.
    """

    def __init__(self, case: Case, rows: dict[str, Start], images: int, count: int, slices: int) -> None:
        self.case, self.rows, self.images, self.count = case, rows, images, count
        self.test = Slices.of(case, "test", slices)

    def study(self, name: str) -> Study:
        """The training of a row."""
        own = recipes.load(self.case.plan.recipe, self.case.plan.changes)
        scale = self.images / own.teacher.images
        changes = [
            *self.case.plan.changes,
            "laps=null",
            f"seed={self.case.seed}",
            f"teacher.images={self.images}",
            f"teacher.optimizer.ramp_images={round(scale * own.teacher.optimizer.ramp_images)}",
            f"teacher.ema_halflife={max(1.0, scale * own.teacher.ema_halflife)}",
        ]
        start = self.rows[name]
        if start.model is not None:
            changes += [
                f"teacher.init={json.dumps(str(start.model))}",
                f"teacher.optimizer.lr={own.teacher.optimizer.lr * start.rate}",
            ]
        recipe = recipes.load(self.case.plan.recipe, changes)
        data = recipe.data.model_copy(update={"prep": self.case.recipe.data.prep})
        recipe = recipe.model_copy(update={"data": data.of_source(self.case.store("train"))})
        test = self.case.store("test")
        folder, reference = (
            self.case.out / name.replace(" ", "-").replace(",", ""),
            test.with_name(f"{test.name}-reference"),
        )
        return Study(recipe, folder, Console(stderr=True), "cpu", reference=reference)

    @cached_property
    def base(self) -> Study:
        """The few slices, prepared, and the sampler of all rows."""
        study = self.study(SCRATCH)
        study.prepare()
        return study

    def row(self, name: str) -> dict[str, Any]:
        """A finished row."""
        if name in CLASSICAL:
            tune = Slices.of(self.case, "tune", len(self.test))
            words = max(CLASSICAL[name], key=lambda w: quality(solve(w, tune), tune.truth)["psnr"])
            return quality(solve(words, self.test), self.test.truth)
        start = self.rows[name]
        if start.model is not None and not start.rate:
            model, seconds = Model.load(start.model), {}
        else:
            study = self.study(name)
            record = study.out / "seconds.json"
            with spent(record, "cpu"):
                study.prepare()
                study.train()
            model, seconds = study.teacher, {"seconds": taken(record)}
        sampler = model.sampler(self.base.store, self.base.recipe.evaluate.sampler, self.count)
        images = torch.cat(list(sampler(list(range(self.count)))))
        words = ONE_STEP if model.conditions_on_mask else PLUG_AND_PLAY
        restored = quality(solve(words, self.test, model), self.test.truth)
        return {**restored, **seconds, "n": self.count, **self.case.yardstick(images)}


def table(rows: list[dict[str, Any]]) -> str:
    """Quality of restored slices, distances of generated ones, and what was asked for."""
    lines = [
        f"| | restored, PSNR (dB) / SSIM | {' | '.join(METRICS.values())} | training s |",
        "|---" * (len(METRICS) + 3) + "|",
    ]
    for row in rows:
        distances = " | ".join(f"{row[metric]:.3f}" if metric in row else "" for metric in METRICS)
        seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
        lines.append(f"| {row['row']} | {line_of(row)} | {distances} | {seconds} |")
    scratch = next((row for row in rows if row["row"] == SCRATCH), None)
    tuned = [row for row in rows if row["row"].startswith(TUNED)] if scratch is not None else []
    for row in tuned:
        ratios = ", ".join(f"{row[m] / scratch[m]:.2f} of {name}" for m, name in METRICS.items())
        lines += ["", f"{row['row']}, against {SCRATCH}: {row['psnr'] - scratch['psnr']:+.2f} dB, {ratios}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=existing, nargs="+", required=True, help="pretrained teachers")
    parser.add_argument("--recipe", default="demo/brain", help="or demo/brain-l1: restored slices")
    parser.add_argument(
        "--rates", type=positive, nargs="+", default=[0.25], help="parts of the recipe's learning rate"
    )
    parser.add_argument("--heads", type=Path, metavar="PATH", help=f"folder of label maps, or {COLIN}")
    parser.add_argument("--few", type=whole, default=FEW, help="training slices")
    parser.add_argument("--images", type=whole, default=4000, help="seen in each training")
    parser.add_argument("--n", type=whole, default=100, help="generated images of each row")
    parser.add_argument("--slices", type=whole, default=64, help="restored slices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/fine-tuning"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="rows with these words")
    parser.add_argument("--json", type=new_file, help="rows, one a line")
    parser.add_argument("--smoke", action="store_true", help="everything at its smallest, 16 x 16")
    arguments = parser.parse_args()
    heads: Path | None = arguments.heads or next((place for place in PLACES if place.is_dir()), None)
    if heads is None:
        print("fine_tuning: skipped, for there are no label maps; give --heads PATH or --heads colin")
        return
    networks = starts(arguments.model, arguments.rates)
    for model in arguments.model:
        Model.load(model)
    size, changes = (16, SMOKE) if arguments.smoke else (32, [])
    changes = [*changes, *([] if str(heads) == COLIN else HEADS), *arguments.changes]
    changes += [f"data.simulate.matrix=[{size}, {size}]", f"data.simulate.slices={arguments.few}"]
    plan = Plan(
        recipe=arguments.recipe,
        changes=changes,
        heads=None if str(heads) == COLIN else heads,
        selections={"train": "18", "tune": "17", "test": "19-20"},
        contrasts=["pd"],
        volumes=dict(zip(PARTS, (1, 2, 4), strict=True)),
        counts=[arguments.n],
        stops=[],
        solver="zero-filled",
        l1_images=None,
        work=arguments.work,
        device="cpu",
    )
    path = arguments.json or arguments.work / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("recipe", "few", "images", "n", "slices", "seed", "changes", "smoke")
    settings = {key: getattr(arguments, key) for key in keys}
    rows = known_rows(path, settings)
    case = Case(plan, 4, arguments.seed)
    work = FineTuning(case, networks, arguments.images, arguments.n, arguments.slices)
    for name in (*CLASSICAL, *networks):
        chosen = not arguments.only or any(words in name for words in arguments.only)
        if name not in {row["row"] for row in rows} and chosen:
            row = {"row": name, **work.row(name), "settings": settings}
            rows.append(row)
            print(f"{name}: {line_of(row)}", flush=True)
            keep_row(path, row)
    print(table(rows))


if __name__ == "__main__":
    one_line(main)
