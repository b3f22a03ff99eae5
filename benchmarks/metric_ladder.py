"""Which metrics rank known degradations: the distance of images from references must rise with every rung.

    python -m benchmarks.metric_ladder --counts 100 300 1000 --seeds 0 1 2 --json ladder.json

Three sets of simulated heads that share no volume: references, images that are degraded, and training images
(which the memorised copies are taken from). A ladder is a degradation of growing strength, its first rung the
images as they are. A metric passes a ladder where it rises from each rung to the next, at every n and seed.
Ratios, which are 1 at best, count by their distance from 1 on a logarithmic scale.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from benchmarks.ablations import one_line
from benchmarks.arguments import new_file
from scipy.ndimage import gaussian_filter
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.fourier import fft, ifft
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import DEFAULT, extractors
from mrigen.metrics.memorisation import copied_share
from mrigen.metrics.spectra import ImageStatistics
from mrigen.prep.simulate import anatomy
from mrigen.prep.simulate.acquisition import Scanner, Simulation
from mrigen.progress import track

SLICES = 24
WINDOW = 0.99


def heads(count: int, seed: int, side: int = 32, slices: int = SLICES) -> Tensor:
    """Complex slices (count, 1, side, side) of random heads in order of their volumes.

    Root of the sum of squares of four coils, with the phase of the first one; the 99th percentile is 1.
    """
    simulation = Simulation(
        slices=slices,
        matrix=(side, side),
        coils=4,
        snr=50.0,
        slice_range=(0.35, 0.8),
        seed=seed,
        anatomy=anatomy.digest(None),
    )
    scanner = Scanner.build(simulation, anatomy.load(None))
    volumes = -(-count // slices)
    coils = torch.cat([ifft(part) for number in range(volumes) for part in scanner.acquire(number)])[:count]
    magnitude = coils.abs().square().sum(1, keepdim=True).sqrt()
    images = torch.polar(magnitude, coils[:, :1].angle())
    return images / magnitude.flatten().kthvalue(int(WINDOW * magnitude.numel())).values


def blur(images: Tensor, sigma: float, _: Rung) -> Tensor:
    """Gaussian blur of a standard deviation in pixels."""
    parts = (gaussian_filter(p.numpy(), (0, 0, sigma, sigma)) for p in (images.real, images.imag))
    return torch.complex(*(torch.from_numpy(p) for p in parts))


def noise(images: Tensor, sigma: float, rung: Rung) -> Tensor:
    """White noise per real component; the same noise at every strength."""
    return images + sigma * torch.randn(images.shape, dtype=images.dtype, generator=rung.rng) * 2**0.5


def noise_on_blur(images: Tensor, sigma: float, rung: Rung) -> Tensor:
    """White noise on images that are blurred by one pixel at every rung."""
    return noise(blur(images, 1.0, rung), sigma, rung)


def aliasing(images: Tensor, acceleration: float, rung: Rung) -> Tensor:
    """Random lines of k-space at an acceleration, four in the centre always; the rest zero.

    The lines of a stronger acceleration are among those of a weaker one.
    """
    width = images.shape[-1]
    order = torch.rand(len(images), width, generator=rung.rng)
    order[:, width // 2 - 2 : width // 2 + 2] = 2
    kept = order.argsort(1, descending=True).argsort(1) < round(width / acceleration)
    return ifft(fft(images) * kept[:, None, None])


def missing(images: Tensor, side: float, rung: Rung) -> Tensor:
    """A black square of a side, as a fraction of the image's, somewhere in the middle half."""
    size = images.shape[-1]
    edge = round(side * size)
    corner = (size / 4 + torch.rand(2, len(images), generator=rung.rng) * size / 2 - edge / 2).round()
    at = torch.arange(size)[None]
    rows, columns = (((at >= c[:, None]) & (at < c[:, None] + edge)) for c in corner)
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)


def dropped(images: Tensor, share: float, rung: Rung) -> Tensor:
    """Only a share of the images, each as often as it takes."""
    order = torch.randperm(len(images), generator=rung.rng)
    kept = order[: max(1, round(share * len(images)))]
    return images[kept.repeat(-(-len(images) // len(kept)))[: len(images)]]


def copied(images: Tensor, share: float, rung: Rung) -> Tensor:
    """A share of the images replaced by training images."""
    changed = torch.randperm(len(images), generator=rung.rng)[: round(share * len(images))]
    images = images.clone()
    images[changed] = rung.training[changed]
    return images


def checkerboard(images: Tensor, amplitude: float, _: Rung) -> Tensor:
    """Magnitudes changed by ± an amplitude, relative, from pixel to pixel, as networks of patches do."""
    rows, columns = (torch.arange(n) for n in images.shape[-2:])
    sign = 1 - 2 * ((rows[:, None] + columns) % 2)
    return images * (1 + amplitude * sign)


@dataclass(frozen=True)
class Rung:
    """What a degradation may use beside the images.

    Attributes:
        rng: source of its randomness, the same at every rung of a ladder.
        training: training images.
    """

    rng: torch.Generator
    training: Tensor


Degrade = Callable[[Tensor, float, Rung], Tensor]

LADDERS: dict[str, tuple[Degrade, tuple[float, ...]]] = {
    "blur": (blur, (0.0, 0.5, 0.75, 1.0, 1.5)),
    "noise": (noise, (0.0, 0.04, 0.08, 0.12, 0.16)),
    "noise on blur": (noise_on_blur, (0.0, 0.04, 0.08, 0.12, 0.16)),
    "checkerboard": (checkerboard, (0.0, 0.05, 0.1, 0.2, 0.4)),
    "aliasing": (aliasing, (1.0, 1.5, 2.0, 3.0, 4.0)),
    "missing anatomy": (missing, (0.0, 0.125, 0.1875, 0.25, 0.375)),
    "mode dropping": (dropped, (1.0, 0.25, 0.1, 0.05, 0.02)),
    "memorised copies": (copied, (0.0, 0.1, 0.25, 0.5, 1.0)),
}


class Measure:
    """All numbers of images against references, smaller being better.

    Args:
        references: complex images.
        training: complex images that copies are counted of.
        features: feature spaces of Fréchet distances.
    """

    def __init__(self, references: Tensor, training: Tensor, features: tuple[str, ...] = DEFAULT) -> None:
        spaces = extractors(features)
        self._spaces = {name: Reference.of(references, each) for name, each in spaces.items()}
        statistics = ImageStatistics.of(references)
        if statistics is None:
            raise ValueError("heads are too small for spectra")
        self._statistics = statistics
        self._components = statistics.components[""]
        self._known = [self._components.features(images) for images in (training, references)]

    def __call__(self, images: Tensor) -> dict[str, float]:
        """Numbers by name; ratios as |log₁₀|."""
        row = {f"fd_{name}": space.distance(images.split(256)) for name, space in self._spaces.items()}
        for name, value in self._statistics.row([images]).items():
            row[name] = abs(math.log10(value)) if "ratio" in name else value
        row["copied_share"] = copied_share(self._components.features(images), *self._known)
        return row


def climb(count: int, seed: int, features: tuple[str, ...] = DEFAULT) -> dict[str, dict[str, list[float]]]:
    """The numbers of all rungs, by ladder and metric, for ``count`` images of each of the three sets."""
    references, images, training = (heads(count, 3 * seed + i) for i in range(3))
    measure = Measure(references, training, features)
    ladders = {}
    for name, (degrade, strengths) in track(LADDERS.items(), f"ladders, n = {count}", len(LADDERS)):
        rungs = [
            measure(degrade(images, s, Rung(seeds.seeded_rng(seed, "ladder", name), training)))
            for s in strengths
        ]
        ladders[name] = {metric: [rung[metric] for rung in rungs] for metric in rungs[0]}
    return ladders


def rises(numbers: list[float]) -> bool:
    """Whether every rung is above the one before it."""
    return all(after > before for before, after in pairwise(numbers))


def table(runs: list[dict[str, Any]]) -> str:
    """In how many runs each metric passes each ladder, and how many ladders it passes in all runs."""
    first = runs[0]["ladders"]
    metrics = list(next(iter(first.values())))
    lines = [
        f"rises at every rung, of {len(runs)} runs (n, seed): "
        + ", ".join(f"({run['n']}, {run['seed']})" for run in runs)
        + "\n",
        "| | " + " | ".join(first) + " | in all runs |",
        "|---" * (len(first) + 2) + "|",
    ]
    for metric in metrics:
        passed = [sum(rises(run["ladders"][name][metric]) for run in runs) for name in first]
        whole = sum(number == len(runs) for number in passed)
        lines.append(f"| {metric} | {' | '.join(map(str, passed))} | {whole} of {len(first)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--features", nargs="+", default=list(DEFAULT), help="pca, r64, pixels, radiomics")
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    if min(arguments.counts) < SLICES:
        raise UsageError(
            f"--counts {min(arguments.counts)}: give at least {SLICES}, the slices of one volume"
        )
    runs = [
        {"n": count, "seed": seed, "ladders": climb(count, seed, tuple(arguments.features))}
        for count in arguments.counts
        for seed in arguments.seeds
    ]
    print(table(runs))
    if arguments.json:
        write_json(arguments.json, runs)


if __name__ == "__main__":
    one_line(main)
