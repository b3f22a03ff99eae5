"""Unseen heads at several accelerations: observation, L1-EDM, teacher, its laps and student (RSD, table 4).

    python -m benchmarks.heads --size 32 --acceleration 2 4 6 8 --work runs/heads

Label maps of some people are painted with two contrasts and acquired for training, those of others for the
references, those of a third group for the floor: the distance of other people's clean images. L1-EDM is a
diffusion model of l1-wavelet reconstructions (sigpy) of the training set, of the teacher's network, trained
for as many processor seconds (on a GPU: seconds) as teacher, laps and student together. Every row has the
same numbers n of images: Fréchet distances of random VGG16 features (R64) and of 48 principal components of
the references' heads, energy outside 200 components, power beyond a quarter of the pixels as a multiple of
the references' and the distance of radial spectra of the head. Each row is printed and appended to
``--json`` (a JSON object a line) as it is ready; the same command continues what was interrupted and
measures no row again. ``--heads colin`` takes other transforms of the one bundled head for all parts,
``--set`` changes the recipe for all, ``--seeds`` repeats everything, ``--smoke`` is a minute's try.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from benchmarks.ablations import Ablations, one_line, parser
from benchmarks.result_tables import spread
from torch import Tensor

from mrigen import recipe as recipes
from mrigen import seeds
from mrigen.data.images import read_images
from mrigen.data.restored_store import RestoredStore
from mrigen.data.stores import open_store
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.engine.launch import open_device
from mrigen.engine.sampling import chunks
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.inverse import SOLVERS
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import R64, extractor
from mrigen.metrics.reference import open_reference
from mrigen.metrics.spectra import ImageStatistics
from mrigen.prep.kspace import job
from mrigen.prep.kspace.options import Options
from mrigen.prep.simulate.job import simulate
from mrigen.recipe.prepare import simulation
from mrigen.recipe.restoring import restore
from mrigen.recipe.schema import Recipe, SimulateParams
from mrigen.recipe.stages import Stage
from mrigen.recipe.study import Study

ROOT = Path(__file__).resolve().parents[1]
PLACES = [parent.parent / "shared" / "data" / "heads" for parent in (ROOT, ROOT.parent)]
COLIN = "colin"
PARTS = ("train", "tune", "test")
OBSERVATION, STUDENT, TEACHER, L1_EDM = "observation", "student", "teacher", "L1-EDM"
LAPS = "teacher after laps"
METRICS = {
    "r64": "R64",
    "fd_pca_head": "48 components, head",
    "energy_outside": "energy outside 200",
    "high_frequency_ratio": "high-frequency power",
    "log_spectral_distance_head": "spectrum of the head, dB",
}
SPACES = ("r64", "fd_pca_head")
HEADS = ["data.simulate.slice_range=[0.35, 0.9]"]
SMOKE = [
    "teacher.network={name: song-unet, model_channels: 8, channel_mult: [1], num_blocks: 1}",
    "teacher.images=32",
    "teacher.batch=8",
    "laps={count: 1, images: 16, ema_halflife: 8, samples: 8}",
    "distill.images=16",
    "distill.batch=8",
    "distill.selection={every_images: 8, samples: 8}",
    "evaluate.sampler={name: heun, steps: 3}",
    "data.simulate.slices=6",
    "data.simulate.coils=2",
    "data.prep.calib_readout=12",
]
CALIBRATION = 20
"""Batches of the shorter of two trainings whose difference tells what an image costs."""
AT = 4
"""Acceleration of the recipe's weights w of what was restored; at others a lap leaves as much of an error."""
WEIGHTED = "reconstructed"
"""Objective with such a weight."""
LONGEST = 20
BATCH = 50


def acs_lines(acceleration: float, lines: int) -> int:
    """An eighth of the lines, at most half of what is measured; ESPIRiT's kernel needs three."""
    return max(3, min(lines // 8, int(lines / acceleration) // 2))


def weight_at(acceleration: float, weight: float) -> float:
    """The weight w with which a lap corrects as much at an acceleration as a recipe's at R = 4."""
    return min(weight * (AT - 1) / max(acceleration - 1, weight), 1.0)


class ReconstructedStudy(Study):
    """A teacher of reconstructed images.

    Args:
        base: the study whose data are reconstructed.
        solver: how, in a command's words.
        folder: of the reconstructions.
        out: run folder.
        device: where the teacher is trained.
        images: length of the training.
    """

    def __init__(self, base: Study, solver: str, folder: Path, out: Path, device: str, images: int) -> None:
        whole = {"objective": {"name": "standard"}, "preconditioning": {"name": "edm"}, "images": images}
        teacher = base.recipe.teacher.model_copy(update=whole)
        data = base.recipe.data.of_source(base.store_folder)
        recipe = base.recipe.model_copy(update={"data": data, "teacher": teacher, "laps": None})
        super().__init__(recipe, out, base.console, device, reference=base.reference_folder)
        self.base, self.solver, self.folder = base, solver, folder

    @cached_property
    def store(self) -> RestoredStore:
        """The images, reconstructed when they are first asked for."""
        path, measured = self.folder / "images.h5", open_store(self.store_folder)
        stage, spec = Stage("reconstructions", self.folder, self.data_settings()), SOLVERS.parse(self.solver)

        def reconstruct() -> None:
            restore(self.base, spec, None, path)

        stage.run(reconstruct, self.console)
        return RestoredStore(path, measured, {"solver": self.solver})

    def data_settings(self) -> dict[str, Any]:
        """Those of the measurements, and how they are reconstructed."""
        return {**super().data_settings(), "solver": self.solver}


@dataclass(frozen=True)
class Plan:
    """What the command asks for.

    Attributes:
        recipe: name of the recipe.
        changes: to it, for all.
        heads: folder or files of label maps or volumes; None for the bundled head.
        selections: heads of each part, where there are several.
        contrasts: what label maps are painted as.
        volumes: of each part.
        counts: numbers of images of every row.
        stops: noise levels at which the teacher's sampler stops, beside the full schedule.
        solver: of L1-EDM's images, in a command's words.
        l1_images: training images of L1-EDM; None for as long as teacher, laps and student together.
        work: folder.
        device: of the networks.
    """

    recipe: str
    changes: list[str]
    heads: Path | None
    selections: dict[str, str]
    contrasts: list[str]
    volumes: dict[str, int]
    counts: list[int]
    stops: list[float]
    solver: str
    l1_images: int | None
    work: Path
    device: str

    def settings(self) -> dict[str, Any]:
        """What decides a row, beside seed and acceleration."""
        chosen = {} if self.heads is None else {"selections": self.selections, "contrasts": self.contrasts}
        return {
            "recipe": self.recipe,
            "changes": self.changes,
            "heads": COLIN if self.heads is None else self.heads.name,
            **chosen,
            "volumes": self.volumes,
            "counts": self.counts,
            "solver": self.solver,
            **({} if self.l1_images is None else {"l1_images": self.l1_images}),
        }

    def loaded(self, acceleration: float, seed: int) -> Recipe:
        """The recipe of one acceleration and seed."""
        recipe = recipes.load(self.recipe, [*self.changes, f"seed={seed}"])
        if recipe.data.simulate is None:
            raise UsageError(f"--recipe {self.recipe}: simulates no volumes; give one like demo/brain")
        lines = recipe.data.simulate.matrix[1]
        prep = {"acceleration": acceleration, "acs_lines": acs_lines(acceleration, lines), "seed": seed}
        data = recipe.data.model_copy(update={"prep": {**recipe.data.prep, **prep}})
        laps = recipe.laps
        if laps is not None and laps.unmeasured_weight is not None:
            weight = weight_at(acceleration, laps.unmeasured_weight)
            laps = laps.model_copy(update={"unmeasured_weight": weight})
        teacher = recipe.teacher
        if teacher.objective["name"] == WEIGHTED:
            params = OBJECTIVES.params(teacher.objective).model_dump()
            weight = weight_at(acceleration, params["unmeasured_weight"])
            objective = {**teacher.objective, "unmeasured_weight": weight}
            teacher = teacher.model_copy(update={"objective": objective})
        return recipe.model_copy(update={"data": data, "teacher": teacher, "laps": laps})

    def simulated(self, params: SimulateParams, part: str, seed: int) -> SimulateParams:
        """What is simulated for a part of the data."""
        update: dict[str, Any] = {"volumes": self.volumes[part], "seed": 3 * seed + PARTS.index(part)}
        if self.heads is not None:
            update |= {"anatomy": self.heads, "contrast": self.contrasts, "heads": self.selections[part]}
        return params.model_copy(update=update)


class Case:
    """Data, models and rows of one acceleration and seed.

    Args:
        plan: what is asked for.
        acceleration: R.
        seed: of data and networks.
    """

    def __init__(self, plan: Plan, acceleration: float, seed: int) -> None:
        self.plan, self.acceleration, self.seed = plan, acceleration, seed
        self.recipe = plan.loaded(acceleration, seed)
        self.shared = plan.work / f"seed-{seed}"
        self.out = self.shared / f"R{acceleration:g}"

    def store(self, part: str) -> Path:
        """The store of a part of the data, made if it is not there; the references lie beside it."""
        simulated, folder = self.recipe.data.simulate, self.out / f"store-{part}"
        raw = self.shared / f"raw-{part}"
        if simulated is not None and not (folder / "manifest.json").is_file():
            params = self.plan.simulated(simulated, part, self.seed)
            simulate(raw, params.volumes, simulation(params), params.chosen)
            job.run([raw], folder, Options(**{**self.recipe.data.prep, "split": part}), strict=True)
        return folder

    def references(self, part: str) -> Tensor:
        """Clean images of a part, in the order of the store."""
        folder = self.store(part)
        references = open_reference(folder.with_name(f"{folder.name}-reference"), part)
        return references.images(list(range(len(references))))

    @cached_property
    def work(self) -> Ablations:
        """Teacher and student of the training heads."""
        test = self.store("test")
        data = [
            f"data.store={self.store('train')}",
            f"data.reference={test.with_name(test.name + '-reference')}",
        ]
        data += [f"data.prep={json.dumps(self.recipe.data.prep)}"]
        changes = [
            *self.plan.changes,
            f"seed={self.seed}",
            f"evaluate.samples={max(self.plan.counts)}",
            *data,
        ]
        if self.recipe.laps is not None and self.recipe.laps.unmeasured_weight is not None:
            changes.append(f"laps.unmeasured_weight={self.recipe.laps.unmeasured_weight:g}")
        objective = self.recipe.teacher.objective
        if objective["name"] == WEIGHTED:
            changes.append(f"teacher.objective.unmeasured_weight={objective['unmeasured_weight']:g}")
        return Ablations(self.plan.recipe, self.out, changes, self.plan.device)

    @property
    def names(self) -> list[str]:
        """The rows, the cheapest first."""
        floors = [f"floor: {part} heads" for part in ("tune", "train")]
        stopped = [f"teacher, σ ≥ {stop:g}" for stop in self.plan.stops]
        laps = [] if self.recipe.laps is None else [LAPS]
        return [OBSERVATION, *floors, TEACHER, *stopped, *laps, STUDENT, L1_EDM]

    def row(self, name: str) -> dict[str, Any]:
        """Images of a row, and what they cost."""
        if name == OBSERVATION:
            return {"images": self.observed()}
        if name.startswith("floor"):
            return {"images": self.mixed(self.references(name.split()[1]))}
        if name == L1_EDM:
            return self.l1_edm()
        self.teach()
        base = self.work.base
        if name == STUDENT:
            return self.sampled(self.distilled())
        if name == LAPS:
            folder, sampler = self.out / "laps", base.recipe.evaluate.of_laps
            return self.sampled(self.work.sample(base, base.best_teacher_folder, folder, 0.0, sampler))
        sampler = dict(base.recipe.evaluate.sampler)
        if name != TEACHER:
            stop = self.plan.stops[self.names.index(name) - self.names.index(TEACHER) - 1]
            sampler["grid"] = {**sampler.get("grid", {}), "sigma_min": stop}
        folder = self.out / re.sub(r"[^\w.]+", "-", name)
        return self.sampled(self.work.sample(base, base.teacher_folder, folder, 0.0, sampler))

    def teach(self) -> None:
        """Train the teacher; what it took is kept."""
        with spent(self.out / "teacher-seconds.json", self.plan.device):
            self.work.teach()

    def distilled(self) -> dict[str, Any]:
        """The student's samples; what its training took is kept."""
        self.teach()
        with spent(self.out / "student-seconds.json", self.plan.device):
            study = self.work.student_study("student", [])
            diverged = self.work.distil(study)
        return diverged or self.work.sample(study, study.student_folder, study.out, 0.0)

    def l1_edm(self) -> dict[str, Any]:
        """L1-EDM, trained for as long as teacher, laps and student together, or for the images asked for."""
        if self.plan.l1_images is None:
            self.distilled()
        base, folder = self.work.base, self.out / "reconstructions"
        budget = sum(taken(self.out / f"{name}-seconds.json") for name in (TEACHER, STUDENT))

        def study(name: str, images: int) -> ReconstructedStudy:
            out = self.out / name
            return ReconstructedStudy(base, self.plan.solver, folder, out, self.plan.device, images)

        batch, known = base.recipe.teacher.batch, self.out / "l1-edm-images.json"
        if self.plan.l1_images is not None:
            known.parent.mkdir(parents=True, exist_ok=True)
            write_json(known, self.plan.l1_images)
        if not known.is_file():
            whole = base.recipe.teacher.images
            few = max(1, min(CALIBRATION, whole // (4 * batch))) * batch
            many, limit, seconds = 3 * few, LONGEST * whole, []
            for name, images in (("calibration-1", few), ("calibration-2", many)):
                one = study(name, images)
                len(one.store)
                with spent(self.out / f"{name}-seconds.json", self.plan.device):
                    one.train()
                seconds.append(taken(self.out / f"{name}-seconds.json"))
            rate = max(seconds[1] - seconds[0], 1e-9) / (many - few)
            write_json(known, max(1, round(min(budget / rate, limit) / batch)) * batch)
        trained = study("l1-edm", json.loads(known.read_text(encoding="utf-8")))
        len(trained.store)
        with spent(self.out / "l1-edm-seconds.json", self.plan.device):
            trained.train()
        made = self.work.sample(trained, trained.teacher_folder, trained.out / "samples", 0.0)
        trained_images = {"budget": budget, "training_images": trained.recipe.teacher.images}
        return {**self.sampled(made), **trained_images, "seconds": taken(self.out / "l1-edm-seconds.json")}

    def sampled(self, made: dict[str, Any]) -> dict[str, Any]:
        """A row of sampled images."""
        if "diverged" in made:
            return {"diverged": made["diverged"]}
        images = torch.cat(list(read_images(Path(made["path"]))))
        return {"images": images, "seconds_per_1000": made["seconds_per_1000"]}

    def observed(self) -> Tensor:
        """Zero-filled images of the training heads, drawn without replacement."""
        store = open_store(self.store("train"))
        chosen = self.chosen(len(store))
        parts = (store.measurements(rows) for rows in chunks(chosen, BATCH))
        return torch.cat([part.operator.as_image(part.y) for part in parts])

    def mixed(self, images: Tensor) -> Tensor:
        """Images of a part, drawn without replacement."""
        return images[self.chosen(len(images))]

    def chosen(self, available: int) -> list[int]:
        """Indices of the most images that any row has."""
        largest = max(self.plan.counts)
        if available < largest:
            raise UsageError(
                f"--n {largest}: a part has {available} slices only; raise --volumes or lower --n"
            )
        order = torch.randperm(available, generator=seeds.seeded_rng(self.seed, "heads"))
        return order[:largest].tolist()

    @cached_property
    def yardstick(self) -> Yardstick:
        """Distances from the test heads."""
        return Yardstick(self.references("test"), self.plan.device)


class Yardstick:
    """Distances of images from references, in several feature spaces.

    Args:
        references: clean images (n, 1, H, W).
        device: where network features are computed.
    """

    def __init__(self, references: Tensor, device: str) -> None:
        self._r64 = Reference.of(references, extractor(R64).to(open_device(device).device))
        self._statistics = ImageStatistics.of(references)

    def __call__(self, images: Tensor) -> dict[str, float]:
        """R64's distance of a set of images (n, 1, H, W), and what ``ImageStatistics`` says of it."""
        parts = images.split(256)
        seen = {} if self._statistics is None else self._statistics.row(parts)
        return {"r64": self._r64.distance(parts), **seen}


@contextmanager
def spent(record: Path, device: str) -> Iterator[None]:
    """Add the processor seconds of this process to a record; on a GPU the seconds that pass."""
    clock = time.process_time if open_device(device).device.type == "cpu" else time.perf_counter
    start = clock()
    try:
        yield
    finally:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, taken(record) + clock() - start)


def taken(record: Path) -> float:
    """Seconds of a record; 0 where there is none."""
    return float(json.loads(record.read_text(encoding="utf-8"))) if record.is_file() else 0.0


def measured(case: Case, name: str) -> dict[str, Any]:
    """A finished row: what it is, and its numbers at every n."""
    numbers = case.row(name)
    images = numbers.pop("images", None)
    row = {"seed": case.seed, "acceleration": case.acceleration, "row": name, **numbers}
    for key in (TEACHER, STUDENT):
        if name == key:
            row["seconds"] = taken(case.out / f"{key}-seconds.json")
    if images is None:
        return row
    return {**row, "at": {str(n): case.yardstick(images[:n]) for n in case.plan.counts}}


def known_rows(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of earlier runs of the same command.

    Raises:
        UsageError: they were made with other settings, or are none.
    """
    if not path.is_file():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        other = [row for row in rows if row["settings"] != json.loads(json.dumps(settings))]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{path}: holds no rows of this benchmark ({error}); choose another --json"
        ) from error
    if other:
        raise UsageError(f"{path}: holds rows of other settings; choose another --json and another --work")
    return rows


def keep_row(path: Path, row: dict[str, Any]) -> None:
    """Append a finished row to the file that ``known_rows`` reads."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def line_of(row: dict[str, Any], n: str | None = None) -> str:
    """A row of the table as it comes, at its largest n."""
    start = f"| {row['acceleration']:g} | {row['seed']} | {row['row']} | "
    if "at" not in row:
        return start + f"diverged | {' | '.join([''] * len(METRICS))} | |"
    n = n or list(row["at"])[-1]
    numbers = " | ".join(f"{row['at'][n][metric]:.3g}" for metric in METRICS)
    cost = [f"{row[key]:.3g}" if key in row else "" for key in ("seconds", "seconds_per_1000")]
    return f"{start}{n} | {numbers} | {' | '.join(cost)} |"


TITLE = f"| R | seed | | n | {' | '.join(METRICS.values())} | training s | s per 1000 |\n" + "|---" * 11 + "|"


def table(rows: list[dict[str, Any]]) -> str:
    """Every metric at the largest n and distances at the others, over all seeds; where the student fails."""
    counts = next(list(row["at"]) for row in rows if "at" in row)
    others = [(metric, n) for n in counts[:-1] for metric in SPACES]
    columns = [*((metric, counts[-1]) for metric in METRICS), *others]
    words = [f"{name}, n = {counts[-1]}" for name in METRICS.values()]
    words += [f"{METRICS[metric]}, n = {n}" for metric, n in others]
    cost = {"seconds": "training s", "seconds_per_1000": "s per 1000"}
    lines = [f"| R | | {' | '.join([*words, *cost.values()])} |", "|---" * (2 + len(words) + len(cost)) + "|"]
    ordered = sorted(rows, key=lambda row: float(row["acceleration"]))
    for acceleration, name in dict.fromkeys((row["acceleration"], row["row"]) for row in ordered):
        same = [row for row in rows if (row["acceleration"], row["row"]) == (acceleration, name)]
        own = [row for row in same if "at" in row]
        cells = [
            spread([row["at"][n][metric] for row in own]) if own else "diverged" for metric, n in columns
        ]
        cells += [f"{own[0][key]:.3g}" if own and key in own[0] else "" for key in cost]
        lines.append(f"| {acceleration:g} | {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *verdicts(rows, counts[-1])])


def verdicts(rows: list[dict[str, Any]], n: str) -> list[str]:
    """Where the student is farther than its teacher, or than 0.8 of L1-EDM."""
    lines = []
    for metric in SPACES:
        distances = {
            (row["acceleration"], row["seed"], row["row"]): row.get("at", {}).get(n, {}).get(metric, math.inf)
            for row in rows
        }
        for other, factor in ((TEACHER, 1.0), (LAPS, 1.0), (L1_EDM, 0.8)):
            runs = dict.fromkeys(
                key[:2]
                for key in distances
                if {STUDENT, other} <= {k[2] for k in distances if k[:2] == key[:2]}
            )
            if not runs:
                continue
            worse = [
                f"{r:g} (seed {s})"
                for r, s in runs
                if distances[r, s, STUDENT] > factor * distances[r, s, other]
            ]
            where = f"not at R = {', '.join(worse)}" if worse else "at every R"
            lines.append(f"- {METRICS[metric]}: student at most {factor:g} of {other}: {where}")
    return lines


def options() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--work", type=Path, default=Path("runs/heads"))
    made.add_argument("--heads", type=Path, metavar="PATH", help=f"folder of label maps, or {COLIN}")
    made.add_argument("--train", default="1-14", help="heads by name, counted from 1")
    made.add_argument("--tune", default="15-17")
    made.add_argument("--test", default="18-20")
    made.add_argument("--contrast", nargs="+", default=["t1", "t2"])
    made.add_argument(
        "--volumes", type=int, nargs=3, default=[112, 48, 48], metavar=("TRAIN", "TUNE", "TEST")
    )
    made.add_argument("--acceleration", type=float, nargs="+", default=[2, 4, 6, 8], metavar="R")
    made.add_argument("--size", type=int, default=32, help="readout samples and lines: 32, 64, ...")
    made.add_argument("--n", type=int, nargs="+", default=[250, 500, 1000], help="images of every row")
    made.add_argument("--stops", type=float, nargs="*", default=[0.1, 0.2, 0.4], metavar="SIGMA")
    made.add_argument("--l1", default="l1-wavelet", metavar="SOLVER", help="such as l1-wavelet:iterations=50")
    made.add_argument("--l1-images", type=int, metavar="N", help="L1-EDM's training, instead of equal time")
    made.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED")
    made.add_argument("--only", action="append", default=[], metavar="WORDS", help="rows with these words")
    made.add_argument("--smoke", action="store_true", help="everything at its smallest, 16 x 16")
    return made


def planned(arguments: argparse.Namespace) -> Plan | None:
    """What is asked for; None where the heads are not there."""
    heads: Path | None = arguments.heads or next((place for place in PLACES if place.is_dir()), None)
    if heads is None:
        return None
    if str(heads) == COLIN:
        heads = None
    size, volumes, counts, solver = arguments.size, arguments.volumes, sorted(set(arguments.n)), arguments.l1
    changes = [] if heads is None else [*HEADS]
    if arguments.smoke:
        size, volumes, counts, solver = 16, [4, 3, 3], [8, 12], "l1-wavelet:iterations=2"
        changes += SMOKE
    return Plan(
        arguments.recipe,
        [*changes, f"data.simulate.matrix=[{size}, {size}]", *arguments.changes],
        heads,
        {part: getattr(arguments, part) for part in PARTS},
        arguments.contrast,
        dict(zip(PARTS, volumes, strict=True)),
        counts,
        arguments.stops,
        solver,
        arguments.l1_images,
        arguments.work,
        arguments.device,
    )


def main() -> None:
    arguments = options().parse_args()
    plan = planned(arguments)
    if plan is None:
        print("heads: skipped, for there are no label maps; give --heads PATH or --heads colin")
        return
    SOLVERS.build(SOLVERS.parse(plan.solver))
    recipes.load(plan.recipe, plan.changes)
    path = arguments.json or plan.work / "rows.jsonl"
    settings = plan.settings()
    rows = known_rows(path, settings)
    cases = [
        Case(plan, acceleration, seed) for seed in arguments.seeds for acceleration in arguments.acceleration
    ]
    done = {(row["acceleration"], row["seed"], row["row"]) for row in rows}
    print("\n".join([TITLE, *map(line_of, rows)]), flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    for case in cases:
        for name in case.names:
            if arguments.only and not any(words in name for words in arguments.only):
                continue
            if (case.acceleration, case.seed, name) not in done:
                row = {**measured(case, name), "settings": settings}
                rows.append(row)
                print(line_of(row), flush=True)
                keep_row(path, row)
    print(table(rows))


if __name__ == "__main__":
    one_line(main)
