"""One teacher, many students: what each choice of distillation is worth, as Fréchet distances.

    python -m benchmarks.ablations --recipe demo/brain --out runs/ablations --json ablations.json

The recipe's data and teacher are made once. Every variation distils that teacher with other settings and is
compared with the same references. ``--set`` changes the recipe for all, ``--vary`` adds variations
(``--vary distill.sigma_init=5``), ``--only`` picks some by words in their names. The same command continues
what was interrupted; what has diverged says so in its row.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arguments import new_file
from benchmarks.demo_seeds import data_seeds
from rich.console import Console

from mrigen import recipe as recipes
from mrigen.data.images import write_images
from mrigen.data.stores import open_store
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.errors import NonFiniteLossError, UsageError
from mrigen.files import write_json
from mrigen.model import Model
from mrigen.recipe.comparison import Comparison, compare
from mrigen.recipe.evaluation import sample
from mrigen.recipe.schema import Recipe
from mrigen.recipe.study import Study
from mrigen.tensors import evenly_spaced

Rows = list[dict[str, Any]]
BATCH = 250
OWN = "as the recipe says"
LOSSES = {
    "loss: SiD, α = 1.0": ["distill.loss={name: sid, alpha: 1.0}"],
    "loss: SiD, α = 1.2": ["distill.loss={name: sid, alpha: 1.2}"],
    "loss: DMD": ["distill.loss={name: dmd}"],
    "loss: DMD with regression": ["distill.loss={name: dmd, regression: {}}"],
    "loss: SDS, no fake score": ["distill.loss={name: sds}"],
}
STARTS = {
    "start: student random": ["distill.init=random"],
    "start: fake score random": ["distill.fake_init=random"],
    "start: both random": ["distill.init=random", "distill.fake_init=random"],
}
TIME_SCALES = {f"fake steps: {k}": [f"distill.fake_steps={k}"] for k in (2, 5)}
MASKED = {
    "loss domain: image": ["distill.loss.domain=image"],
    "loss domain: further": ["distill.loss.domain=further"],
    "fake loss: further": ["distill.fake_loss=further"],
    "loss domain and fake loss: further": ["distill.loss.domain=further", "distill.fake_loss=further"],
    "generator input: sampled": ["distill.generator_input=sampled"],
    "loss domain: image, generator input: sampled": [
        "distill.loss.domain=image",
        "distill.generator_input=sampled",
    ],
    "as released for MRI": [
        "distill.loss.domain=image",
        "distill.generator_input=sampled",
        "distill.fake_loss=further",
    ],
}


def mismatches(corruption: dict[str, Any]) -> dict[str, list[str]]:
    """Weaker and stronger corruption than the data's, assumed on purpose (DCD, fig. 6)."""
    settings: dict[str, list[str]] = {}
    mask, operator, sigma = (corruption.get(key) or {} for key in ("mask", "operator", "sigma"))
    for factor in (0.75, 1.25):
        if "acceleration" in mask:
            value = round(factor * mask["acceleration"], 2)
            settings[f"assumed R = {value:g}"] = [f"distill.corruption.mask.acceleration={value}"]
        if "missing" in operator:
            value = round(min(0.95, factor * operator["missing"]), 3)
            settings[f"assumed missing = {value:g}"] = [f"distill.corruption.operator.missing={value}"]
        if sigma.get("low"):
            value = round(factor * sigma["low"], 4)
            settings[f"assumed σ = {value:g}"] = [f"distill.corruption.sigma={value}"]
    return settings


def floors(corruption: dict[str, Any]) -> dict[str, list[str]]:
    """The generator's loss at no less noise than (half of) the data have: a teacher learned nothing below."""
    sigma = (corruption.get("sigma") or {}).get("low")
    levels = [round(factor * sigma, 4) for factor in (0.5, 1)] if sigma else []
    return {f"σ floor {level:g}": [f"distill.loss.noise.floor={level}"] for level in levels}


def variations(recipe: Recipe, corruption: dict[str, Any], own: list[str]) -> dict[str, list[str]]:
    """Settings of each variation, by its name; only what makes a difference for this teacher."""
    masked = OBJECTIVES[recipe.teacher.objective["name"]].conditions_on_mask
    return {
        OWN: [],
        **(MASKED if masked else {}),
        **LOSSES,
        **STARTS,
        **TIME_SCALES,
        **floors(corruption),
        **mismatches(corruption),
        **{text: text.split() for text in own},
    }


class Ablations:
    """A teacher in ``out/base`` and a folder for every variation."""

    def __init__(self, recipe: str, out: Path, changes: list[str], device: str) -> None:
        self.name, self.out, self.changes, self.device = recipe, out, changes, device
        self.console = Console(stderr=True)
        self.base = Study(recipes.load(recipe, changes), out / "base", self.console, device)

    def teach(self) -> None:
        """Prepare the data and train the teacher and its laps."""
        self.base.prepare()
        self.base.train()

    def check(self, variations: dict[str, list[str]]) -> None:
        """Refuse settings that are none, before anything is trained.

        Raises:
            UsageError: unknown keys or values of the wrong kind.
        """
        for settings in variations.values():
            recipes.load(self.name, [*self.changes, *settings])

    def student(self, name: str, settings: list[str]) -> dict[str, Any]:
        """Distil the base's teacher with other settings and sample it; its row, without distances."""
        return self.distilled(self.student_study(name, settings), name, settings)

    def student_study(self, name: str, settings: list[str]) -> Study:
        """A distillation of the base's teacher, the best lap's where there are laps, with other settings."""
        recipe = recipes.load(self.name, [*self.changes, *settings])
        recipe = recipe.model_copy(update={"data": recipe.data.of_source(self.base.store_folder)})
        folder, teacher = self.folder(name), self.base.best_teacher_folder
        return Study(recipe, folder, self.console, self.device, teacher, self.base.reference_folder)

    def whole(self, name: str, settings: list[str]) -> list[dict[str, Any]]:
        """Data, teacher and student of their own; rows of both, whose references are the base's."""
        recipe, folder = recipes.load(self.name, [*self.changes, *settings]), self.folder(name)
        study = Study(recipe, folder, self.console, self.device, reference=self.base.reference_folder)
        study.prepare()
        study.train()
        teachers = self.teachers(study, f"{name}: teacher", settings)
        return [*teachers, self.distilled(study, f"{name}: student", settings)]

    def folder(self, name: str) -> Path:
        """Where a variation lies."""
        return self.out / re.sub(r"[^\w.]+", "-", name).strip("-")

    def distilled(self, study: Study, name: str, settings: list[str]) -> dict[str, Any]:
        """Distil a study's teacher and sample the student; its row, without distances."""
        row: dict[str, Any] = {"variation": name, "settings": settings}
        start = time.monotonic()
        diverged = self.distil(study)
        if diverged:
            return {**row, **diverged}
        minutes = (time.monotonic() - start) / 60
        selected = json.loads((study.out / "student" / "selection.json").read_text(encoding="utf-8"))
        measured = [min(v for k, v in at.items() if k != "images") for at in selected["measured"]]
        row |= {"proximal": min(measured, default=None), "images": selected["images"]}
        return {**row, **self.sample(study, study.student_folder, study.out, minutes)}

    @staticmethod
    def distil(study: Study) -> dict[str, Any]:
        """Distil; what a row says of a run that diverged, or nothing."""
        try:
            study.distill()
        except NonFiniteLossError as error:
            return {"diverged": str(error)}
        return {}

    def sample(
        self,
        study: Study,
        model: Path,
        folder: Path,
        minutes: float,
        by: dict[str, Any] | None = None,
        *,
        after: int | None = None,
    ) -> dict[str, Any]:
        """Images of seeds 0, 1, ... by the recipe's sampler or another; not made again for the same model and
        sampler.

        ``after`` so many steps a generator of several ends.
        """
        params = study.recipe.evaluate
        chosen = params.sampler if by is None else by
        path, record = folder / "images.h5", folder / "row.json"
        opened = Model.load(model) if after is None else Model.load(model).after(after)
        key = {
            "model": opened.description.weights_sha256,
            "n": params.samples,
            "sampler": chosen,
        }
        known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        if key.items() <= known.items() and path.is_file():
            return {**known, "path": str(path)}
        sampler = opened.sampler(study.store, chosen if opened.role == "teacher" else None, BATCH)
        sampler.to(study.fabric.device)
        start = time.perf_counter()
        write_images(path, list(range(params.samples)), sampler(list(range(params.samples))))
        seconds = 1000 * (time.perf_counter() - start) / params.samples
        numbers = {
            **key,
            "minutes": minutes,
            "evaluations": sampler.evaluations,
            "seconds_per_1000": seconds,
        }
        write_json(record, numbers)
        return {**numbers, "path": str(path)}

    def observed(self) -> dict[str, Any]:
        """The row of the measurements themselves, as images."""
        store, path = open_store(self.base.store_folder), self.out / "observations.h5"
        chosen = evenly_spaced(len(store), self.base.recipe.evaluate.samples)
        batches = (store.measurements(chosen[i : i + BATCH]) for i in range(0, len(chosen), BATCH))
        if not path.is_file():
            write_images(path, chosen, (batch.operator.as_image(batch.y) for batch in batches))
        return {"variation": "observation", "settings": [], "n": len(chosen), "path": str(path)}

    def measure(self, rows: list[dict[str, Any]], metrics: tuple[str, ...] = ("fd",)) -> list[dict[str, Any]]:
        """The rows with their distances from the references, or other metrics."""
        params = self.base.recipe.evaluate
        settings = Comparison(
            metrics=metrics,
            reference=self.base.reference_folder,
            split=params.split,
            features=tuple(params.features),
            weights=params.weights,
            resamples=0,
            device=self.device,
        )
        paths = [Path(row["path"]) for row in rows if "path" in row]
        measured = {row["samples"]: row for row in compare(paths, settings)}
        numbers = [measured.get(row.get("path"), {}) for row in rows]
        names = [*metrics, *(f"fd_{name}" for name in params.features[1:]), "high_frequency_ratio"]
        return [
            {**row, **{name: at.get(name) for name in names}} for row, at in zip(rows, numbers, strict=True)
        ]

    def teachers(
        self, study: Study | None = None, name: str = "teacher", settings: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Rows of a study's teacher (by default the base's): by the recipe's sampler, and with its stops."""
        study = self.base if study is None else study
        count = study.recipe.evaluate.samples
        sampler = study.teacher.sampler(study.store, study.recipe.evaluate.sampler, BATCH)
        sampler.to(study.fabric.device)
        whole = sample(study, "teacher", sampler, count)
        samples = {name: whole}
        samples |= {f"{name}, stopped at σ = {stop:g}": early for stop, early in whole.stopped.items()}
        return [
            {
                "variation": words,
                "settings": list(settings),
                "n": count,
                "minutes": 0.0,
                "evaluations": made.evaluations,
                "seconds_per_1000": 1000 * made.seconds / count,
                "path": str(made.path),
            }
            for words, made in samples.items()
        ]


def seen(row: dict[str, Any], features: list[str]) -> str:
    """Cells of a row: its distance in every feature space, and its power beyond N/4 over the references'."""
    names = ["fd", *(f"fd_{name}" for name in features[1:]), "high_frequency_ratio"]
    return " | ".join("" if row.get(name) is None else f"{row[name]:.3f}" for name in names)


def table(rows: list[dict[str, Any]], features: list[str]) -> str:
    """One line per row."""
    count = next(row["n"] for row in rows if "n" in row)
    lines = [
        f"Fréchet distances, n = {count}; the proximal distance is of {features[0]}",
        (
            f"| variation | {' | '.join(features)} | power beyond N/4 | proximal | best after | evaluations "
            "| s per 1000 | minutes |"
        ),
        "|---" * (7 + len(features)) + "|",
    ]
    for row in rows:
        if "diverged" in row:
            lines.append(f"| {row['variation']} | diverged{' |' * (6 + len(features))}")
            continue
        proximal = "" if row.get("proximal") is None else f"{row['proximal']:.3f}"
        images = "" if row.get("images") is None else f"{row['images']:,.0f}"
        cost = " | | "
        if "evaluations" in row:
            cost = f"{row['evaluations']} | {row['seconds_per_1000']:.2f} | {row['minutes']:.1f}"
        lines.append(f"| {row['variation']} | {seen(row, features)} | {proximal} | {images} | {cost} |")
    return "\n".join(lines)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that all benchmarks of distillation share."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--recipe", default="demo/brain")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    made.add_argument("--device", default="auto")
    made.add_argument("--json", type=new_file)
    return made


def of_seed(options: argparse.Namespace, seed: int) -> Ablations:
    """The recipe with data, teacher and students of a seed's own."""
    own = data_seeds(recipes.load(options.recipe, options.changes).data, seed)
    changes = [*own, *options.changes, f"seed={seed}"]
    return Ablations(options.recipe, options.out / f"seed-{seed}", changes, options.device)


def rows_of_seeds(
    options: argparse.Namespace,
    compared: Callable[[argparse.Namespace, int], Rows],
    table: Callable[[Rows], str],
) -> Rows:
    """Rows of one seed after the other, printed and written as they are ready."""
    rows: Rows = []
    for seed in options.seeds:
        rows += compared(options, seed)
        print(table(rows), flush=True)
        if options.json:
            write_json(options.json, rows)
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=Path("runs/ablations"))
    options.add_argument("--vary", action="append", default=[], metavar="'KEY=VALUE ...'")
    options.add_argument("--only", action="append", default=[], metavar="WORDS")
    arguments = options.parse_args()
    work = Ablations(arguments.recipe, arguments.out, arguments.changes, arguments.device)
    work.check({text: text.split() for text in arguments.vary})
    work.base.prepare()
    students = variations(work.base.recipe, work.base.store.described() or {}, arguments.vary)
    if arguments.only:
        students = {name: s for name, s in students.items() if any(words in name for words in arguments.only)}
    if not students:
        raise UsageError(f"--only {' '.join(arguments.only)}: no variation has these words in its name")
    work.teach()
    rows = [*work.teachers(), *(work.student(name, settings) for name, settings in students.items())]
    rows = work.measure(rows)
    print(table(rows, work.base.recipe.evaluate.features))
    if arguments.json:
        write_json(arguments.json, rows)


def one_line(action: Callable[[], None]) -> None:
    """Run a script; a user's mistake ends it with its message alone."""
    try:
        action()
    except UsageError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    one_line(main)
