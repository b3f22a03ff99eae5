"""How the time of each part grows: coils, matrix, slices, volumes, images in a store; fitted exponents.

    python -m benchmarks.growth --json growth.json

ESPIRiT and the normal operator along coils, side and slices; preparation along volumes; opening a store and
reading a training batch along the images in it; a training step along the side. An exponent is the slope of
log seconds over log size, by least squares: 1 is linear, 0 does not depend on the size.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import espirit, normal, preparation
from benchmarks.arguments import new_file, whole
from rich.console import Console

from mrigen import recipe as recipes
from mrigen.coils.espirit import espirit as maps_of
from mrigen.data.stores import open_store
from mrigen.engine.launch import open_device
from mrigen.engine.teacher import TeacherJob, describe_teacher, sample_indices
from mrigen.files import write_json
from mrigen.model import Model
from mrigen.operators.mri import MultiCoilMRI
from mrigen.prep.kspace import job
from mrigen.prep.kspace.options import Options
from mrigen.prep.simulate.acquisition import Simulation
from mrigen.recipe.study import Study

COILS = (4, 8, 16, 32)
SIDES = (128, 256, 384, 512)
"""Beside 256² for coils and 8 coils for sides."""
HEAD = "| part | along | sizes | seconds | exponent |\n" + "|---" * 5 + "|"


def timed(action: Callable[[], object], rounds: int) -> float:
    """Median seconds; the first call is not counted."""
    seconds = []
    for round_ in range(rounds + 1):
        start = time.perf_counter()
        action()
        if round_:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def row(what: str, along: str, sizes: Sequence[int], seconds: Sequence[float]) -> dict[str, Any]:
    """A line of the table."""
    slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {"what": what, "along": along, "sizes": list(sizes), "seconds": list(seconds), "exponent": slope}


def maps(rounds: int) -> list[dict[str, Any]]:
    """ESPIRiT along coils, side and slices."""
    measured = espirit.growth(rounds)
    coils, sides = measured[: len(COILS)], measured[len(COILS) :]
    slices = (1, 2, 4, 8)
    one = espirit.simulate(8, 128, 128)
    several = [timed(lambda n=n: maps_of(one.expand(n, -1, -1, -1)), rounds) for n in slices]
    return [
        row("ESPIRiT", "coils", [r["coils"] for r in coils], [r["seconds"] for r in coils]),
        row("ESPIRiT", "side", [r["matrix"] for r in sides], [r["seconds"] for r in sides]),
        row("ESPIRiT", "slices", slices, several),
    ]


def products(rounds: int) -> list[dict[str, Any]]:
    """The normal operator along coils and side."""

    def seconds(coils: int, side: int) -> float:
        maps, mask, image = normal.problem(1, coils, side, side)
        operator = MultiCoilMRI(maps, mask)
        return timed(lambda: operator.normal(image), 3 * rounds)

    return [
        row("normal operator", "coils", COILS, [seconds(c, 256) for c in COILS]),
        row("normal operator", "side", SIDES, [seconds(8, n) for n in SIDES]),
    ]


def volumes(rounds: int, counts: Sequence[int]) -> list[dict[str, Any]]:
    """``prep-fastmri`` along the number of volumes, in this process."""
    simulation = Simulation(coils=8, slices=4, matrix=(128, 128), oversampling=2)
    options = Options(acceleration=preparation.ACCELERATION, acs_lines=preparation.ACS_LINES)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        raw = preparation.raw_folders(Path(folder), list(counts), simulation)
        outs = (Path(folder) / f"out{number}" for number in itertools.count())
        for count in counts:
            source = raw[count]
            run = partial(job.run, [source], options=options, references=None, jobs=1)
            seconds.append(timed(lambda run=run: run(next(outs)), rounds))
    return [row("prep-fastmri", "volumes", counts, seconds)]


def random_images(folder: Path, count: int, side: int) -> None:
    """A data set of so many random grey images, in the IDX format of MNIST."""
    folder.mkdir()
    shape = (count, side, side)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    header = struct.pack(">4I", 0x0803, *shape)  # 08: bytes; 03: axes
    (folder / "train-images-idx3-ubyte").write_bytes(header + pixels.tobytes())


def stores(rounds: int, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Opening a store and reading a training batch, along the number of its images."""
    opened, read = [], []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            source = Path(folder) / f"images{count}"
            random_images(source, count, 32)
            changes = [f"data.images.source={source}", "data.images.size=32"]
            study = Study(recipes.load("celeba/denoise-s20", changes), Path(folder) / str(count), quiet())
            study.prepare()
            opened.append(timed(lambda s=study: open_store(s.store_folder), rounds))
            steps = iter(range(1000))
            store = study.store

            def batch(store=store, steps=steps) -> object:
                return store.measurements(sample_indices(len(store), 0, 64 * next(steps), 64))

            read.append(timed(batch, 10 * rounds))
    return [
        row("opening an image store", "images", counts, opened),
        row("reading a batch of 64", "images in the store", counts, read),
    ]


def steps(rounds: int, sides: Sequence[int]) -> list[dict[str, Any]]:
    """A step of training a small network, along the side of the images."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            changes = [
                "data.images.source=shapes",
                "data.images.limit=32",
                f"data.images.size={side}",
                "teacher.batch=4",
                "teacher.network.model_channels=16",
                "teacher.network.num_blocks=1",
                "teacher.network.attn_resolutions=[]",
            ]
            recipe = recipes.load("celeba/denoise-s20", changes)
            study = Study(recipe, Path(folder) / str(side), quiet(), "cpu")
            study.prepare()
            model = Model.random_init(describe_teacher(recipe.teacher, study.store))
            objective = model.objective(study.store)
            training = TeacherJob(
                recipe.teacher, model.denoiser, objective, study.store, open_device("cpu"), 0
            )
            numbers = iter(range(1000))
            seconds.append(timed(lambda j=training, n=numbers: j.step(next(n)), rounds))
    return [row("training step", "side", sides, seconds)]


def quiet() -> Console:
    return Console(quiet=True)


def lines(rows: list[dict[str, Any]]) -> str:
    """Lines of the table, one for each part and what it was measured along."""
    written = []
    for r in rows:
        sizes, seconds = ", ".join(f"{s:,}" for s in r["sizes"]), ", ".join(f"{s:.3g}" for s in r["seconds"])
        written.append(f"| {r['what']} | {r['along']} | {sizes} | {seconds} | {r['exponent']:.2f} |")
    return "\n".join(written)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--threads", type=whole, default=torch.get_num_threads())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(espirit.machine(arguments.threads))
    print(HEAD)
    rows: list[dict[str, Any]] = []
    for part in arguments.parts:
        results = PARTS[part](arguments.rounds)
        print(lines(results), flush=True)
        rows += results
        if arguments.json:
            write_json(arguments.json, rows)


PARTS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "espirit": maps,
    "normal": products,
    "stores": lambda rounds: stores(rounds, (1000, 4000, 16000)),
    "preparation": lambda rounds: volumes(rounds, (1, 2, 4, 8)),
    "training": lambda rounds: steps(rounds, (32, 64, 128)),
}


if __name__ == "__main__":
    main()
