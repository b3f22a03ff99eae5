"""All methods on one data set: equal data, network, images seen in training and n.

    python -m benchmarks.methods --data digits-inpaint --images 128000 --work runs/methods

Each method learns a generator of clean images from the same corrupted measurements, but for those that say
that they have clean ones. N is ``--images``: a method in several stages divides it among them, so that none
has seen more. The network, its optimiser and the sampler are the recipe's, and nothing was tuned for a
method. Rows are distances from the same references with the same number n of images; each is printed and
appended to ``--json`` (a JSON object a line) as it is ready; the same command continues what was
interrupted and measures no row again. ``--smoke`` tries everything at its smallest.

``--data heads`` is the recipe demo/brain with the data of ``benchmarks.heads``: label maps of some people
(``--heads PATH``) for training and of others for the references, at ``--acceleration R``; without PATH it is
the bundled head. ``--data photographs-denoise`` and ``photographs-inpaint`` are cifar10/denoise-s20 and
cifar10/inpaint-p60 with a network and an optimiser for two cores; ``--set data.images.source=FILE`` says
where the photographs are.

Methods: EDM on clean images (the upper bound, and with 50 images); the naive loss, which takes measurements
for what they are not; MSM (measurement score model), the naive teacher of masks sampled by ``measurement``;
EDM on restored images (l1-wavelet: L1-EDM; total variation; a masked autoencoder); Ambient Diffusion or
Ambient Tweedie, and its one-step student by SiD (RSD); with noise, Tweedie followed by consistency
(TweedieDiff, in two stages), and SURE-Score; AmbientGAN and, behind masks, MisGAN with the known law of
masks, which is AmbientGAN whose discriminator is shown the mask; EM-Diffusion, posterior samples by ``mmps``
and training on these, twice, from 50 clean images or from the measurements alone (with noise alone, A = I,
that is SFBD's scheme); on heads also EM-Diffusion from l1-wavelet reconstructions whose unmeasured part has
the weight w of ``laps.unmeasured_weight``, and its student.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole
from benchmarks.heads import Case, keep_row, known_rows, spent, taken, weight_at
from benchmarks.heads import options as heads_options
from benchmarks.heads import planned as heads_planned
from benchmarks.method_stages import DATA, OBSERVATION, PHOTOGRAPHS, SMOKE, of_heads, of_pictures
from rich.console import Console

from mrigen import recipe as recipes
from mrigen.data.images import write_images
from mrigen.data.stores import open_store
from mrigen.engine.sampling import chunks
from mrigen.model import Model
from mrigen.recipe.comparison import Comparison, compare
from mrigen.recipe.study import Study
from mrigen.tensors import evenly_spaced

BATCH = 250
OTHERS = ("row", "settings", "n", "references", "evaluations", "seconds")


class Methods:
    """The methods on one data set.

    Args:
        data: name of the data set.
        images: N.
        count: n, images of every row.
        work: folder.
        changes: of the recipe, for all.
        device: of the networks.
        case: heads of other people for training and references; None for the recipe's data.
    """

    def __init__(
        self,
        data: str,
        images: int,
        count: int,
        work: Path,
        changes: list[str],
        device: str,
        case: Case | None,
    ) -> None:
        self.recipe, self.case = DATA[data], case
        self.images, self.count, self.device = images, count, device
        photographs = PHOTOGRAPHS if data.startswith("photographs") else ()
        self.changes, self.work = ["evaluate.stops=[]", "evaluate.samplers={}", *photographs, *changes], work
        if data == "heads":
            laps = recipes.load(self.recipe, self.changes).laps
            weight = 1.0 if laps is None or laps.unmeasured_weight is None else laps.unmeasured_weight
            self.stages = of_heads(weight if case is None else weight_at(case.acceleration, weight))
        else:
            self.stages = of_pictures(noisy=data.endswith("denoise"))
        self.changes.append("laps=null")
        self.console = Console(stderr=True)

    def settings(self) -> dict[str, Any]:
        """What decides a row, beside the method."""
        own = {"recipe": self.recipe, "images": self.images, "n": self.count, "changes": self.changes}
        if self.case is None:
            return own
        return {**own, "acceleration": self.case.acceleration, "heads": self.case.plan.settings()}

    @property
    def names(self) -> list[str]:
        """The rows, the cheapest first."""
        return [OBSERVATION, *(name for name, stage in self.stages.items() if stage.sampled)]

    @cached_property
    def base(self) -> Study:
        """The measurements of all methods, prepared."""
        recipe, reference = recipes.load(self.recipe, self.changes), None
        if self.case is not None:
            test = self.case.store("test")
            reference = test.with_name(f"{test.name}-reference")
            data = self.case.recipe.data.of_source(self.case.store("train"))
            recipe = recipe.model_copy(update={"data": data})
        study = Study(recipe, self.work / "base", self.console, self.device, reference=reference)
        study.prepare()
        return study

    def study(self, name: str) -> Study:
        """The study of a method's stage."""
        stage = self.stages[name]
        seen = max(1, round(stage.part * self.images))
        section = "distill" if stage.distilled else "teacher"
        # The recipe's schedule, at this length.
        original = recipes.load(self.recipe, self.changes)
        run = original.distill if stage.distilled else original.teacher
        scale = seen / run.images
        lengths = [f"{section}.images={seen}", f"{section}.snapshot_images={max(seen, run.batch)}"]
        if stage.distilled:
            every = max(1, seen // 8)
            lengths += [f"distill.ema_halflife={max(1.0, scale * original.distill.halflives[0])}"]
            lengths += [f"distill.selection={{every_images: {every}, samples: {self.count}}}"]
        else:
            ramp = round(scale * original.teacher.optimizer.ramp_images)
            lengths += [f"teacher.ema_halflife={scale * original.teacher.ema_halflife}"]
            lengths += [f"teacher.optimizer.ramp_images={ramp}"]
        changes = [*self.changes, *lengths, *stage.settings]
        start = self.model(stage.start) if stage.start and stage.part else None
        if start is not None and not stage.distilled:
            changes.append(f"teacher.init={json.dumps(str(start))}")
        recipe = recipes.load(self.recipe, changes)
        data = recipe.data
        if not stage.own_data:
            data = data.of_source(self.base.store_folder)
        elif self.case is not None:
            prep = {**self.case.recipe.data.prep, "acceleration": data.prep["acceleration"], "split": "train"}
            raw = [self.case.shared / "raw-train"]
            data = data.model_copy(update={"simulate": None, "source": raw, "prep": prep})
        elif data.simulate is not None:
            data = data.model_copy(update={"simulate": None, "source": [self.base.out / "raw"]})
        recipe = recipe.model_copy(update={"data": data})
        overrides = start if stage.distilled else None
        return Study(
            recipe, self.folder(name), self.console, self.device, overrides, self.base.reference_folder
        )

    def folder(self, name: str) -> Path:
        """Where a method's stage lies."""
        return self.work / re.sub(r"[^\w.]+", "-", name).strip("-")

    def model(self, name: str) -> Path:
        """The model folder of a method, trained if it is not."""
        stage = self.stages[name]
        if not stage.part and stage.start:
            return self.model(stage.start)
        study = self.study(name)
        folder = study.student_folder if stage.distilled else study.teacher_folder
        if folder.is_dir():
            return folder
        with spent(self.folder(name) / "seconds.json", self.device):
            study.prepare()
            if stage.distilled:
                study.distill()
            else:
                study.train()
        return folder

    def seconds(self, name: str) -> float:
        """What all trainings of a method took, restoring the data included."""
        before = self.stages[name].start
        return taken(self.folder(name) / "seconds.json") + (self.seconds(before) if before else 0.0)

    def row(self, name: str) -> dict[str, Any]:
        """A finished row."""
        folder = self.folder(name)
        path = folder / "images.h5"
        folder.mkdir(parents=True, exist_ok=True)
        if name == OBSERVATION:
            store = open_store(self.base.store_folder)
            chosen = evenly_spaced(len(store), self.count)
            parts = (store.measurements(part) for part in chunks(chosen, BATCH))
            write_images(path, chosen, (part.operator.as_image(part.y) for part in parts))
            return {"row": name, **self.measured(path)}
        stage, model, study = self.stages[name], Model.load(self.model(name)), self.study(name)
        store = study.store if stage.part else self.study(stage.start).store
        spec = study.recipe.evaluate.sampler if model.role == "teacher" else None
        sampler = model.sampler(store, spec, BATCH)
        sampler.to(study.fabric.device)
        every = list(range(self.count))
        write_images(path, every, sampler(every))
        return {
            "row": name,
            **self.measured(path),
            "evaluations": sampler.evaluations,
            "seconds": self.seconds(name),
        }

    def measured(self, path: Path) -> dict[str, Any]:
        """Distances of images from the references."""
        params = self.base.recipe.evaluate
        settings = Comparison(
            metrics=("fd", "precision", "recall"),
            reference=self.base.reference_folder,
            split=params.split,
            features=tuple(params.features),
            resamples=0,
            device=self.device,
        )
        (row,) = compare([path], settings)
        return {key: value for key, value in row.items() if isinstance(value, float | int)}


def numbers(row: dict[str, Any]) -> list[str]:
    """The metrics of a row."""
    return [key for key in row if key not in OTHERS]


def title(row: dict[str, Any]) -> str:
    """The head of the table."""
    words = [*numbers(row), "evaluations", "training s"]
    return f"| | {' | '.join(words)} |\n{'|---' * (len(words) + 1)}|"


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [f"{row[key]:.3g}" for key in numbers(row)]
    cost = [str(row.get("evaluations", "")), f"{row['seconds']:.0f}" if "seconds" in row else ""]
    return f"| {row['row']} | {' | '.join([*cells, *cost])} |"


def rows_of(methods: Methods, path: Path, only: list[str]) -> Iterator[dict[str, Any]]:
    """Rows that are known, then others as they are ready."""
    settings = methods.settings()
    rows = known_rows(path, settings)
    yield from rows
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in methods.names:
        if name in {row["row"] for row in rows} or (only and not any(words in name for words in only)):
            continue
        row = {**methods.row(name), "settings": settings}
        keep_row(path, row)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=DATA, default="digits-inpaint")
    parser.add_argument("--images", type=whole, default=128_000, help="N, seen in all trainings of a method")
    parser.add_argument("--n", type=whole, default=450, help="images of every row")
    parser.add_argument("--work", type=Path, default=Path("runs/methods"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="rows with these words")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=new_file)
    parser.add_argument("--smoke", action="store_true", help="everything at its smallest")
    parser.add_argument("--heads", type=Path, metavar="PATH", help="folder of label maps, for --data heads")
    parser.add_argument("--acceleration", type=float, metavar="R", help="with --heads; 4 by default")
    arguments = parser.parse_args()
    if arguments.data != "heads" and (arguments.heads or arguments.acceleration):
        parser.error("--heads and --acceleration are for --data heads")
    if arguments.acceleration and not arguments.heads:
        parser.error("--acceleration: needs --heads; the recipe has R = 4")
    images, count, changes = arguments.images, arguments.n, arguments.changes
    if arguments.smoke:
        images, count = 64, 8
        changes = [*SMOKE[arguments.data.partition("-")[0]], "teacher.batch=8", "distill.batch=8", *changes]
    work, case = arguments.work / arguments.data, None
    if arguments.heads:
        acceleration = arguments.acceleration or 4.0
        words = ["--heads", str(arguments.heads), "--work", str(work), "--volumes", "56", "24", "24"]
        plan = heads_planned(heads_options().parse_args([*words, *(["--smoke"] if arguments.smoke else [])]))
        assert plan is not None
        case, work = Case(plan, acceleration, 0), work / f"R{acceleration:g}"
    methods = Methods(arguments.data, images, count, work, changes, arguments.device, case)
    for stage in methods.stages.values():  # wrong settings are told before anything is trained
        start = ["teacher.init=START"] if stage.start else []
        recipes.load(methods.recipe, [*methods.changes, *stage.settings, *start])
    for number, row in enumerate(rows_of(methods, arguments.json or work / "rows.jsonl", arguments.only)):
        print(f"{title(row)}\n{line_of(row)}" if number == 0 else line_of(row), flush=True)


if __name__ == "__main__":
    one_line(main)
