"""All methods on one data set: equal data, network, images seen in training and n.

    python -m benchmarks.methods --data digits-inpaint --images 128000 --work runs/methods

Each method learns a generator of clean images from the same corrupted measurements, but for those that say
that they have clean ones. N is ``--images``: a method in several stages divides it among them, so that none
has seen more. The network, its optimiser and the sampler are the recipe's, and nothing was tuned for a
method. Rows are distances from the same references with the same number n of images; each is printed and
appended to ``--json`` (a JSON object a line) as it is ready; the same command continues what was
interrupted and measures no row again. ``--data heads`` is demo/brain, R = 4; ``--smoke`` tries everything
at its smallest.

Methods: EDM on clean images (the upper bound, and with 50 images); the naive loss, which takes measurements
for what they are not; MSM (measurement score model), the naive teacher of masks sampled by ``measurement``;
EDM on restored images (l1-wavelet: L1-EDM; total variation; a masked autoencoder); Ambient Diffusion or
Ambient Tweedie, and its one-step student by SiD (RSD); with noise, Tweedie followed by consistency
(TweedieDiff, in two stages), and SURE-Score; AmbientGAN and, behind masks, MisGAN with the known law of
masks, which is AmbientGAN whose discriminator is shown the mask; EM-Diffusion, posterior samples by ``mmps``
and training on these, twice, from 50 clean images or from the measurements alone (with noise alone, A = I,
that is SFBD's scheme).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, whole
from benchmarks.heads import keep_row, known_rows, spent, taken
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
FEW = 50
OBSERVATION, HALF, FEW_CLEAN = "observation", "half of the measurements' teacher", "EDM, 50 clean images"
UNTRAINED = "a network for AmbientGAN"
UNTRAINED_SHOWN = "a network for MisGAN"
GAN = ("distill.loss={name: ambient-gan}", "distill.init=random", "distill.fake_init=random")
STANDARD = "teacher.objective={name: standard}"
HEUN = "evaluate.sampler={name: heun, steps: 18}"
IMAGES = ["data.images.operator={name: identity}", "data.images.noise=0", STANDARD, HEUN]
MMPS = ["teacher.restore={name: mmps, steps: 20}", STANDARD, HEUN]
CONSISTENT = "teacher.objective={name: tweedie, consistency: {steps: 4, samples: 4, images: 16}}"
TOTAL_VARIATION = "teacher.restore={name: total-variation, iterations: 50}"
ONE_STEP = "teacher.restore={name: ambient-one-step, spread: 0.05}"
SMOKE = {
    "digits": ["data.images.limit=100", "teacher.network={name: mlp, hidden: 16, num_blocks: 1}"],
    "heads": [
        "data.simulate={volumes: 4, slices: 6, matrix: [32, 32], coils: 2, slice_range: [0.35, 0.8]}",
        "data.prep.calib_readout=12",
        "data.prep.split={train: 0.5, test: 0.5}",
        "teacher.network={name: song-unet, model_channels: 8, channel_mult: [1], num_blocks: 1}",
    ],
}


@dataclass(frozen=True)
class Stage:
    """A training of a method.

    Attributes:
        settings: changes of the recipe.
        part: of N that it sees; 0 without a start is one step, of a network whose weights nobody uses.
        start: method whose model it starts from or is distilled from; empty for random weights.
        distilled: a student of that method's model, not a teacher.
        own_data: its data are prepared anew from the recipe's source, because ``settings`` change them.
        sampled: False for models that are only the start of others.
    """

    settings: tuple[str, ...] = ()
    part: float = 1.0
    start: str = ""
    distilled: bool = False
    own_data: bool = False
    sampled: bool = True


def of_digits(*, noisy: bool) -> dict[str, Stage]:
    """The methods for small pictures, the cheapest first."""
    restored = (STANDARD, HEUN)
    few = (*IMAGES, f"data.images.limit={FEW * 4 // 3}")
    common = {
        "Ambient Tweedie" if noisy else "Ambient Diffusion": Stage(),
        "naive: noise as signal" if noisy else "naive: δ = 0": Stage(
            restored if noisy else ("data.images.operator.further_missing=0",), own_data=not noisy
        ),
        "EDM, clean images": Stage(tuple(IMAGES), own_data=True),
        FEW_CLEAN: Stage(few, 0.5, own_data=True),
        HALF: Stage(part=0.5, sampled=False),
        "its student by SiD": Stage(part=0.5, start=HALF, distilled=True),
        UNTRAINED: Stage(() if noisy else (STANDARD,), 0, sampled=False),
        "AmbientGAN": Stage(GAN, start=UNTRAINED, distilled=True),
        "EM from 50 clean images, 1": Stage(tuple(MMPS), 0.25, FEW_CLEAN),
        "EM from 50 clean images, 2": Stage(tuple(MMPS), 0.25, "EM from 50 clean images, 1"),
        "EM from measurements, 1": Stage(tuple(MMPS) if noisy else (ONE_STEP, *restored), 0.25, HALF),
        "EM from measurements, 2": Stage(tuple(MMPS), 0.25, "EM from measurements, 1"),
    }
    restoring = {
        "EDM, total variation": Stage(("teacher.restore={name: total-variation, iterations: 50}", *restored))
    }
    if noisy:
        full = Stage(("evaluate.sampler={name: tweedie, steps: 18, truncate: false}",), 0, "Ambient Tweedie")
        consistent = Stage((CONSISTENT, HEUN), 0.5, HALF)
        sure = Stage(("teacher.objective={name: sure-score}", HEUN))
        more = {
            "Ambient Tweedie, in full": full,
            "Tweedie, then consistency": consistent,
            "SURE-Score": sure,
        }
        return {**common, **more, **restoring}
    autoencoder = "teacher.objective={name: ambient, noise: {p_mean: -5.8, p_std: 0.01}}"
    return {
        **common,
        "MSM": Stage(("evaluate.sampler={name: measurement, steps: 18}",), 0, "naive: δ = 0", own_data=True),
        UNTRAINED_SHOWN: Stage((), 0, sampled=False),
        "MisGAN, known masks": Stage(GAN, start=UNTRAINED_SHOWN, distilled=True),
        "masked autoencoder": Stage((autoencoder,), 0.5, sampled=False),
        "EDM, masked autoencoder": Stage((ONE_STEP, *restored), 0.5, "masked autoencoder"),
        **restoring,
    }


def of_heads() -> dict[str, Stage]:
    """The methods for multi-coil MRI."""
    return {
        "Ambient Diffusion": Stage(),
        "EDM, R = 1": Stage(("data.prep.acceleration=1", STANDARD), own_data=True),
        "naive: zero-filled images as signal": Stage((STANDARD,)),
        HALF: Stage(part=0.5, sampled=False),
        "its student by SiD": Stage(part=0.5, start=HALF, distilled=True),
        "EM from measurements, 1": Stage((ONE_STEP, STANDARD), 0.25, HALF),
        "EM from measurements, 2": Stage(tuple(MMPS), 0.25, "EM from measurements, 1"),
        "EDM, l1-wavelet (L1-EDM)": Stage(("teacher.restore={name: l1-wavelet}", STANDARD)),
    }


DATA = {
    "digits-inpaint": ("toy/digits-inpaint", of_digits(noisy=False)),
    "digits-denoise": ("toy/digits-denoise", of_digits(noisy=True)),
    "heads": ("demo/brain", of_heads()),
}


class Methods:
    """The methods on one data set.

    Args:
        data: name of the data set.
        images: N.
        count: n, images of every row.
        work: folder.
        changes: of the recipe, for all.
        device: of the networks.
    """

    def __init__(
        self, data: str, images: int, count: int, work: Path, changes: list[str], device: str
    ) -> None:
        self.recipe, self.stages = DATA[data]
        self.images, self.count, self.device = images, count, device
        self.changes, self.work = ["laps=null", "evaluate.stops=[]", *changes], work
        self.console = Console(stderr=True)

    def settings(self) -> dict[str, Any]:
        """What decides a row, beside the method."""
        return {"recipe": self.recipe, "images": self.images, "n": self.count, "changes": self.changes}

    @property
    def names(self) -> list[str]:
        """The rows, the cheapest first."""
        return [OBSERVATION, *(name for name, stage in self.stages.items() if stage.sampled)]

    @cached_property
    def base(self) -> Study:
        """The measurements of all methods, prepared."""
        study = Study(recipes.load(self.recipe, self.changes), self.work / "base", self.console, self.device)
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
        if stage.own_data:
            if recipe.data.simulate is not None:
                data = recipe.data.model_copy(update={"simulate": None, "source": [self.base.out / "raw"]})
                recipe = recipe.model_copy(update={"data": data})
        else:
            recipe = recipe.model_copy(update={"data": recipe.data.of_source(self.base.store_folder)})
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
    arguments = parser.parse_args()
    images, count, changes = arguments.images, arguments.n, arguments.changes
    if arguments.smoke:
        images, count = 64, 8
        changes = [*SMOKE[arguments.data.partition("-")[0]], "teacher.batch=8", "distill.batch=8", *changes]
    work = arguments.work / arguments.data
    methods = Methods(arguments.data, images, count, work, changes, arguments.device)
    for stage in methods.stages.values():  # wrong settings are told before anything is trained
        start = ["teacher.init=START"] if stage.start else []
        recipes.load(methods.recipe, [*methods.changes, *stage.settings, *start])
    for number, row in enumerate(rows_of(methods, arguments.json or work / "rows.jsonl", arguments.only)):
        print(f"{title(row)}\n{line_of(row)}" if number == 0 else line_of(row), flush=True)


if __name__ == "__main__":
    one_line(main)
