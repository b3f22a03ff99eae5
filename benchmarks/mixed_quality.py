"""A few clean images among many noisy ones: teachers of the noisy ones, of both, and of the clean ones.

    python -m benchmarks.mixed_quality --data digits --shares 0.01 0.1 --json digits.jsonl
    python -m benchmarks.mixed_quality --data photographs --set data.images.source=FILE
    python -m benchmarks.mixed_quality --data heads --shares 0.01 0.03 --json heads.jsonl

``digits`` is the recipe toy/digits-denoise (σ = 0.5), ``photographs`` is cifar10/denoise-s20 (σ = 0.2) with
the network and the optimiser that ``benchmarks.methods`` has for two cores, and ``heads`` is demo/brain-noisy
with scans of SNR 5, whose clean slices are measured whole with SNR 50. All teachers have the recipe's network
and optimiser and the same number of training images; those of clean images alone have objective ``standard``.

With both, a noise level is drawn first and then an image whose own noise is below it (``mrigen.MixedStore``).
Levels at which the clean ones alone are usable are drawn less often, so that none is used more than
``teacher.most_repeats`` times as often as at even shares; a row without that limit is beside it. Of noisy
images alone all levels are drawn above their noise.

Fréchet distances from held-out clean images, of as many samples: of the full trajectory, and of one that
stops at the median noise of the data. The last column but one is the median distance of a sample of the full
trajectory to the nearest of the clean images of its row: far below that of held-out images, the second
number, it tells of copies. Each row is printed and appended to ``--json`` (a JSON object a line) as it is
ready; the same command continues what was interrupted.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file, positive, whole
from benchmarks.heads import keep_row, known_rows, spent, taken
from benchmarks.method_stages import PHOTOGRAPHS
from rich.console import Console
from torch import Tensor

import mrigen as mg
from mrigen import recipe as recipes
from mrigen.data.stores import Store
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import extractor
from mrigen.metrics.reference import open_reference
from mrigen.operators import Measurements
from mrigen.recipe.study import Study
from mrigen.tensors import evenly_spaced

DATA = {
    "digits": ("toy/digits-denoise", ["data.images.noise=0"], []),
    "photographs": (
        "cifar10/denoise-s20",
        ["data.images.noise=0"],
        [*PHOTOGRAPHS, "data.images.limit=13333", "teacher.images=24000"],
    ),
    "heads": (
        "demo/brain-noisy",
        ["data.simulate.snr=50", "data.prep.acceleration=1"],
        ["data.simulate.snr=5", "teacher.images=16000", "teacher.batch=8"],
    ),
}
"""Recipe, changes that make its data clean, and changes of all rows."""
STOPPED = "stopped"
FULL = "full"
BATCH = 250


class Subset:
    """Some images of a store, evenly.

    Args:
        store: all of them.
        count: how many are wanted.
    """

    def __init__(self, store: Store, count: int) -> None:
        self._store, self._rows = store, evenly_spaced(len(store), count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def __len__(self) -> int:
        return len(self._rows)

    def _of(self, indices: list[int]) -> list[int]:
        return [self._rows[index] for index in indices]

    def measurements(self, indices: list[int], **further: Any) -> Measurements:
        """A batch of measurements with their operators."""
        return self._store.measurements(self._of(indices), **further)

    packed = measurements

    def noise_levels(self, indices: list[int]) -> Tensor:
        """σ (n,)."""
        return self._store.noise_levels(self._of(indices))

    def maps_and_masks(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps, masks and lines of some slices."""
        return self._store.maps_and_masks(self._of(indices))


@dataclass(frozen=True)
class Row:
    """A training.

    Attributes:
        name: of the row.
        store: what is trained on.
        clean: the clean images among it.
        changes: of the teacher.
    """

    name: str
    store: Store | list[Store]
    clean: Store | None
    changes: dict[str, Any]


class Mixture:
    """The data of a recipe as they are and clean, and the rows of the table.

    Args:
        data: a name in ``DATA``.
        changes: of the recipe, for all.
        shares: of clean images.
        count: samples of every row; None for as many as there are references.
        seed: of the trainings.
        out: folder.
    """

    def __init__(
        self, data: str, changes: list[str], shares: list[float], count: int | None, seed: int, out: Path
    ) -> None:
        self.recipe, self.clean, usual = DATA[data]
        self.changes = [*usual, *changes, f"seed={seed}"]
        self.params = recipes.load(self.recipe, self.changes).teacher
        self.shares, self.count, self.seed, self.out = shares, count, seed, out

    def settings(self) -> dict[str, Any]:
        """What decides a row, beside its name."""
        return {"recipe": self.recipe, "changes": self.changes, "n": self.count}

    def prepared(self, name: str, more: list[str]) -> Study:
        """The data with other changes."""
        recipe = recipes.load(self.recipe, [*self.changes, *more])
        study = Study(recipe, self.out / name, Console(stderr=True), "cpu")
        study.prepare()
        return study

    @cached_property
    def noisy(self) -> Store:
        """The data as they are."""
        return self.prepared("noisy", []).store

    @cached_property
    def whole(self) -> Study:
        """The same images, clean."""
        return self.prepared("clean", self.clean)

    @cached_property
    def references(self) -> Tensor:
        """Held-out clean images."""
        reference = open_reference(self.whole.reference_folder, "test")
        return reference.images(list(range(len(reference))))

    @cached_property
    def spaces(self) -> dict[str, Reference]:
        """The recipe's feature spaces."""
        names = recipes.load(self.recipe, self.changes).evaluate.features
        return {name: Reference.of(self.references, extractor(name)) for name in names}

    @cached_property
    def noise(self) -> float:
        """Median σ of the data."""
        return float(self.noisy.noise_levels(list(range(len(self.noisy)))).median())

    def rows(self) -> list[Row]:
        """All of them."""
        every, noisy, plain = self.whole.store, self.noisy, {"objective": {"name": "standard"}}
        rows = [Row("noisy", noisy, None, {})]
        for share in self.shares:
            few, words = Subset(every, max(1, round(share * len(every)))), f"{100 * share:g} %"
            rows += [
                Row(f"noisy, and {words} clean", [noisy, few], few, {}),
                Row(f"the same, no limit, {words}", [noisy, few], few, {"most_repeats": None}),
                Row(f"{words} clean alone", few, few, plain),
            ]
        return [*rows, Row("all clean", every, every, plain)]

    def row(self, row: Row) -> dict[str, Any]:
        """A row, trained and measured."""
        folder = self.out / re.sub(r"[^\w.]+", "-", row.name).strip("-")
        with spent(folder / "seconds.json", "cpu"):
            settings = {**self.params.model_dump(exclude_none=True), **row.changes}
            teacher = mg.train(row.store, out=folder, seed=self.seed, device="cpu", **settings)
        sampler = teacher.sampler(self.noisy, {"name": "heun", "steps": 18}, BATCH)
        many = range(len(self.references) if self.count is None else self.count)
        images = torch.cat(list(sampler.ladder(list(many), [self.noise])))
        stopped, full = images.chunk(2, 1)
        parts = row.store if isinstance(row.store, list) else [row.store]
        made: dict[str, Any] = {"data": row.name, "count": sum(map(len, parts)), "n": len(images)}
        for name, space in self.spaces.items():
            made[name] = {
                FULL: space.distance(full.split(BATCH)),
                STOPPED: space.distance(stopped.split(BATCH)),
            }
        if row.clean is not None:
            known = row.clean.measurements(list(range(len(row.clean))))
            clean = known.operator.as_image(known.y)
            made |= {"nearest": nearest(full, clean), "nearest_reference": nearest(self.references, clean)}
        return {**made, "seconds": taken(folder / "seconds.json")}


def nearest(images: Tensor, clean: Tensor) -> float:
    """Median distance of images (n, C, H, W), or their magnitudes, to the nearest of the clean ones."""
    first, second = (x.abs() if x.is_complex() else x for x in (images, clean))
    return float(torch.cdist(first.flatten(1), second.flatten(1)).min(1).values.median())


def averaged(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per training set: means over its seeds, and how many there are."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["data"], []).append(row)
    return [{**_mean(same), "seeds": len(same)} for same in groups.values()]


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of the numbers of rows, of mappings entry by entry; what else is there is the first row's."""
    means = dict(rows[0])
    for key, value in rows[0].items():
        if isinstance(value, dict) and FULL in value:
            means[key] = _mean([row[key] for row in rows])
        elif isinstance(value, float):
            means[key] = statistics.fmean(row[key] for row in rows)
    return means


def table(rows: Iterable[dict[str, Any]]) -> str:
    """A line per training set, means over seeds."""
    kept = averaged(rows)
    spaces = [name for name, value in kept[0].items() if isinstance(value, dict) and FULL in value]
    distances = [f"{name}, {which}" for name in spaces for which in (FULL, STOPPED)]
    words = [
        "training set",
        "seeds",
        "images",
        *distances,
        "nearest clean image; of references",
        "training s",
    ]
    lines = [f"| {' | '.join(words)} |", "|---" * len(words) + "|"]
    for row in kept:
        numbers = [f"{row[name][which]:.3g}" for name in spaces for which in (FULL, STOPPED)]
        copies = f"{row['nearest']:.2f}; {row['nearest_reference']:.2f}" if "nearest" in row else ""
        cells = [row["data"], str(row["seeds"]), str(row["count"]), *numbers, copies, f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=DATA, default="digits")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--shares", type=positive, nargs="+", default=[0.01], help="of clean images")
    parser.add_argument("--n", type=whole, help="samples of every row; as many as there are references")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="rows with these words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/mixed-quality"))
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out / options.data / f"seed-{options.seed}"
    work = Mixture(options.data, options.changes, options.shares, options.n, options.seed, out)
    path, settings = options.json or out / "rows.jsonl", work.settings()
    rows = known_rows(path, settings)
    for row in work.rows():
        chosen = not options.only or any(words in row.name for words in options.only)
        if chosen and row.name not in {known["data"] for known in rows}:
            rows.append({**work.row(row), "settings": settings})
            keep_row(path, rows[-1])
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    print(table(rows))


if __name__ == "__main__":
    one_line(main)
