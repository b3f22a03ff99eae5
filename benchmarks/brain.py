"""Brain slices at several accelerations: observation, L1-EDM, ambient teacher and student (RSD, table 4).

    python -m benchmarks.brain --accelerations 2 4 6 8 --matrix 64 --out runs/brain --json brain.json

Every acceleration simulates the same volumes from one real head; the references are held-out volumes, other
transforms of that head. L1-EDM is a diffusion model of l1-wavelet reconstructions (sigpy), of the teacher's
size and training. Fréchet distance, precision, recall, and seconds for 1,000 images. The same command
continues what was interrupted; ``--set`` changes the recipe for all, ``--seeds`` repeats everything with
other volumes, masks and networks.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from benchmarks.ablations import Ablations, one_line, parser
from benchmarks.demo_seeds import data_seeds
from torch import Tensor

from mrigen import recipe as recipes
from mrigen import seeds
from mrigen.data.images import read_images, write_images
from mrigen.data.manifest import Manifest
from mrigen.data.stores import Store, open_store
from mrigen.engine.sampling import chunks
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.inverse import SOLVERS, Task
from mrigen.operators.base import Measurements
from mrigen.operators.corruption import Corruption
from mrigen.operators.identity import Identity
from mrigen.progress import bar, counted
from mrigen.recipe.stages import Stage
from mrigen.recipe.study import Study

METRICS = ("fd", "precision", "recall")
BATCH = 50


def acs_lines(acceleration: float, lines: int) -> int:
    """An eighth of the lines, at most half of what is measured; ESPIRiT's kernel needs three."""
    return max(3, min(lines // 8, int(lines / acceleration) // 2))


def settings(acceleration: float, matrix: int) -> list[str]:
    """What an acceleration and a size change of the recipe."""
    return [
        f"data.simulate.matrix=[{matrix}, {matrix}]",
        f"data.prep.acceleration={acceleration:g}",
        f"data.prep.acs_lines={acs_lines(acceleration, matrix)}",
    ]


class Reconstructions:
    """Reconstructed images of a store's samples as if they had been measured whole.

    Args:
        path: file of the images, in the order of the store.
        measured: the store that they were reconstructed from.
        solver: how, in a command's words.
    """

    complex_valued = True
    classes = 0

    def __init__(self, path: Path, measured: Store, solver: str) -> None:
        self.folder, self.image_shape = measured.folder, measured.image_shape
        self._images = torch.cat(list(read_images(path)))
        self._measured, self._solver = measured, solver

    def __len__(self) -> int:
        return len(self._images)

    @property
    def manifest(self) -> Manifest:
        """Of the measurements."""
        return self._measured.manifest

    def packed(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """The same as ``measurements``."""
        return self.measurements(indices, fixed_further=fixed_further)

    def measurements(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """The images themselves, under the identity.

        Raises:
            UsageError: ``fixed_further``, for nothing is hidden.
        """
        if fixed_further:
            raise UsageError("reconstructions have no further masks; leave out teacher.fixed_further")
        images = self._images[indices]
        return Measurements(images, Identity(torch.zeros_like(images)), torch.zeros(len(indices)))

    def noise_levels(self, indices: list[int]) -> Tensor:
        """Zero: what noise is left is part of the images."""
        return torch.zeros(len(indices))

    def described(self) -> dict[str, Any]:
        """What a model of these images was trained on."""
        return {"reconstruction": self._solver}

    def corruption(self, *, described: Any = None) -> Corruption:
        """That of the measurements; a model of the images never looks through it."""
        del described
        return self._measured.corruption()


class ReconstructedStudy(Study):
    """A teacher of reconstructed images.

    Args:
        base: the study whose data are reconstructed.
        solver: how, in a command's words.
        out: run folder.
        device: where the teacher is trained.
    """

    def __init__(self, base: Study, solver: str, out: Path, device: str) -> None:
        whole = {"objective": {"name": "standard"}, "preconditioning": {"name": "edm"}}
        teacher = base.recipe.teacher.model_copy(update=whole)
        data = base.recipe.data.given(base.store_folder)
        recipe = base.recipe.model_copy(update={"data": data, "teacher": teacher})
        super().__init__(recipe, out, base.console, device, reference=base.reference_folder)
        self.solver = solver

    @cached_property
    def store(self) -> Reconstructions:
        """The images, reconstructed when they are first asked for."""
        folder = self.out / "reconstructions"
        path, measured = folder / "images.h5", open_store(self.store_folder)
        stage = Stage("reconstructions", folder, self._data_settings())
        stage.run(lambda: reconstruct(measured, self.solver, path), self.console)
        return Reconstructions(path, measured, self.solver)

    def _data_settings(self) -> dict[str, Any]:
        return {**super()._data_settings(), "solver": self.solver}


def reconstruct(store: Store, words: str, path: Path) -> None:
    """Reconstruct every sample of a store into a file."""
    solver = SOLVERS.build(SOLVERS.parse(words))
    wanted = list(range(len(store)))

    def solved() -> Iterator[Tensor]:
        for some in chunks(wanted, BATCH):
            keys = [seeds.key(0, "reconstruct", index) for index in some]
            yield solver.solve(Task(store.measurements(some), keys)).image

    with bar(words, len(wanted), "img") as advance:
        write_images(path, wanted, counted(solved(), advance))


def rows_of(work: Ablations, solver: str, device: str) -> list[dict[str, Any]]:
    """Observation, L1-EDM, teacher and student of one acceleration, with their numbers."""
    work.teach()
    study = ReconstructedStudy(work.base, solver, work.out / "l1-edm", device)
    study.train()
    made = work.sample(study, study.teacher_folder, study.out / "samples", 0.0)
    rows = [
        work.observed(),
        {"variation": "L1-EDM", "settings": [solver], **made},
        work.teacher(),
        work.student("student", []),
    ]
    return work.measure(rows, METRICS)


def table(rows: list[dict[str, Any]], features: list[str]) -> str:
    """A line per acceleration and model, over all seeds; then where the student is worse than its teacher."""
    lines = [
        f"Fréchet distances, n = {rows[0]['n']}; precision and recall of {features[0]}",
        f"| R | | {' | '.join(features)} | power beyond N/4 | precision | recall | s per 1000 |",
        "|---" * (6 + len(features)) + "|",
    ]
    for acceleration, name in dict.fromkeys((row["acceleration"], row["variation"]) for row in rows):
        own = [row for row in rows if (row["acceleration"], row["variation"]) == (acceleration, name)]
        start = f"| {acceleration:g} | {name} |"
        diverged = sum("diverged" in row for row in own)
        if diverged:
            of = f" ({diverged} of {len(own)} seeds)" if len(own) > 1 else ""
            lines.append(f"{start} diverged{of}{' |' * (4 + len(features))}")
            continue
        names = ["fd", *(f"fd_{name}" for name in features[1:]), "high_frequency_ratio", *METRICS[1:]]
        cells = [spread([row[n] for row in own]) if own[0].get(n) is not None else "" for n in names]
        timed = [row["seconds_per_1000"] for row in own if "seconds_per_1000" in row]
        seconds = f"{statistics.mean(timed):.2f}" if timed else ""
        lines.append(f"{start} {' | '.join(cells)} | {seconds} |")
    return "\n".join([*lines, verdict(rows)])


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, or the only value."""
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def verdict(rows: list[dict[str, Any]]) -> str:
    """Where the student is below its teacher."""
    found = {(row["acceleration"], row.get("seed"), row["variation"]): row.get("fd") for row in rows}
    runs = sorted({key[:2] for key in found}, key=lambda run: (run[0], run[1] or 0))
    worse = []
    for run in runs:
        student, teacher = found[*run, "student"], found[*run, "teacher"]
        if student is None or student > teacher:
            worse.append(f"{run[0]:g}" + ("" if run[1] is None else f" (seed {run[1]})"))
    if not worse:
        return "student at most its teacher at every R"
    return f"student NOT below its teacher at R = {', '.join(worse)}"


def options() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--out", type=Path, default=Path("runs/brain"))
    made.add_argument("--accelerations", type=float, nargs="+", default=[2, 4, 6, 8], metavar="R")
    made.add_argument("--matrix", type=int, default=32, help="readout samples and lines: 32, 64, ...")
    made.add_argument("--l1", default="l1-wavelet", metavar="SOLVER", help="such as l1-wavelet:iterations=50")
    made.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="instead of the recipe's own")
    return made


def main() -> None:
    given = options().parse_args()
    if recipes.load(given.recipe, given.changes).data.simulate is None:
        raise UsageError(f"--recipe {given.recipe}: simulates no volumes; give one like demo/brain")
    rows, features = [], []
    for seed in given.seeds or [None]:
        for acceleration in given.accelerations:
            changes = [*settings(acceleration, given.matrix), *given.changes]
            out, own = given.out, {"acceleration": acceleration}
            if seed is not None:
                changes += [*data_seeds(recipes.load(given.recipe, changes).data, seed), f"seed={seed}"]
                out, own = out / f"seed-{seed}", {**own, "seed": seed}
            work = Ablations(given.recipe, out / f"R{acceleration:g}", changes, given.device)
            rows += [{**own, **row} for row in rows_of(work, given.l1, given.device)]
            features = work.base.recipe.evaluate.features
            if given.json:
                write_json(given.json, rows)
    print(table(rows, features))


if __name__ == "__main__":
    one_line(main)
