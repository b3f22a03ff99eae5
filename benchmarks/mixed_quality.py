"""A few clean images among many noisy ones: teachers of the noisy ones, of both, and of the clean ones.

    python -m benchmarks.mixed_quality --shares 0.01 0.1 --images 64000 --json mixed-quality.json

All teachers have the same network, optimiser and number of training images. With both, a noise level is drawn
first and then an image whose own noise is below it (``mrigen.MixedStore``). Fréchet distances from held-out
clean images: of the full trajectory, and of one that stops at the noise of the data. The last column is the
median distance of a sample to the nearest of the clean images: far below that of held-out images, the second
number, it tells of copies.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from benchmarks.arguments import new_file, positive, whole
from torch import Tensor

import mrigen as mg
from mrigen.cli.main import run
from mrigen.data.stores import Store
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import extractor
from mrigen.metrics.reference import open_reference

OPTIMIZER = {
    "lr": 2e-3,
    "ramp_images": 20_000,
    "decay": "linear",
    "max_grad_norm": 1.0,
    "grad_norm_of": "mean",
}
NETWORK = {"name": "mlp", "hidden": 256, "num_blocks": 3}
SPLIT = "train=0.75,test=0.25"


def prepared(folder: Path, source: str, *more: str) -> Path:
    """A store of the source's images, three quarters of them for training."""
    if run(["prep-images", source, "--out", str(folder), "--split", SPLIT, *more]):
        raise UsageError(f"--source {source}: could not be prepared")
    return folder


def train(store: Store | list[Store], noisy: bool, options: argparse.Namespace) -> tuple[mg.Model, float]:
    """A teacher, and the processor seconds of its training."""
    start = time.process_time()
    teacher = mg.train(
        store,
        images=options.images,
        objective="tweedie" if noisy else "standard",
        network=NETWORK,
        optimizer=OPTIMIZER,
        batch=256,
        ema_halflife=options.images / 10,
        seed=options.seed,
        device="cpu",
    )
    return teacher, time.process_time() - start


def nearest(images: Tensor, clean: Tensor) -> float:
    """Median distance of images (n, C, H, W) to the nearest of the clean ones."""
    return float(torch.cdist(images.flatten(1), clean.flatten(1)).min(1).values.median())


def measured(teacher: mg.Model, references: Tensor, clean: Tensor, noise: float) -> dict[str, float]:
    """Distances of the teacher's samples, as many as there are references."""
    distance = Reference.of(references, extractor("pixels"))
    grids = {"full": {}, "stopped": {"grid": {"sigma_min": noise}}}
    row: dict[str, float] = {}
    for name, grid in grids.items():
        images = teacher.sample(len(references), sampler={"name": "heun", "steps": 18, **grid}, batch=512)
        row[name] = distance.distance(images.split(256))
        if name == "full":
            row["nearest"] = nearest(images, clean)
    return {**row, "nearest_reference": nearest(references, clean)}


def table(rows: Iterable[dict[str, Any]]) -> str:
    """A line per training set."""
    lines = [
        "| training set | images | full | stopped | nearest clean image; of references | training s |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['data']} | {row['count']} | {row['full']:.2f} | {row['stopped']:.2f} | "
        f"{row['nearest']:.2f}; {row['nearest_reference']:.2f} | {row['seconds']:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="digits", help="as mrigen prep-images takes it")
    parser.add_argument("--count", type=whole, default=1797, help="images of the source")
    parser.add_argument("--noise", type=positive, default=0.5)
    parser.add_argument("--shares", type=positive, nargs="+", default=[0.01, 0.1], help="of clean images")
    parser.add_argument("--images", type=whole, default=64_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noisy = mg.open_store(prepared(folder / "noisy", options.source, "--noise", str(options.noise)))
        every = mg.open_store(prepared(folder / "clean", options.source))
        reference = open_reference(folder / "clean-reference", "test")
        references = reference.images(list(range(len(reference))))
        sets: list[tuple[str, Store | list[Store], bool, Store]] = [
            ("all clean", every, False, every),
            (f"noisy, σ = {options.noise:g}", noisy, True, every),
        ]
        for share in options.shares:
            limit = str(max(1, round(share * options.count)))
            few = mg.open_store(prepared(folder / f"clean-{limit}", options.source, "--limit", limit))
            sets.append((f"noisy, and {100 * share:g} % of them clean", [noisy, few], True, few))
            sets.append((f"{100 * share:g} % clean alone", few, False, few))
        for words, data, is_noisy, clean in sets:
            teacher, seconds = train(data, is_noisy, options)
            known = clean.measurements(list(range(len(clean)))).y
            count = sum(map(len, data)) if isinstance(data, list) else len(data)
            row = measured(teacher, references, known, options.noise)
            rows.append({"data": words, "count": count, "seconds": seconds, **row})
            print(rows[-1], flush=True)
    print(table(rows))
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
