"""Which metrics rank known degradations: the distance of images from references must rise with every rung.

    python -m benchmarks.metric_ladder --counts 100 300 1000 --seeds 0 1 2 --json ladder.json

Three sets of simulated heads that share no volume: references, images that are degraded, and training images
(which the memorised copies are taken from). A ladder is a degradation of growing strength, its first rung the
images as they are. A metric passes a ladder where it rises from each rung to the next, at every n and seed.
Ratios, which are 1 at best, count by their distance from 1 on a logarithmic scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from mrigen import seeds
from mrigen.data_prep import anatomy
from mrigen.data_prep.simulate import Scanner, Simulation
from mrigen.files import write_json
from mrigen.operators.fourier import fft, ifft
from mrigen.progress import track

SLICES = 24
WINDOW = 0.99


def heads(count: int, seed: int, side: int = 32, slices: int = SLICES) -> Tensor:
    """Complex slices (count, 1, side, side) of random heads in order of their volumes.

    Root of the sum of squares of four coils, with the phase of the first one; the 99th percentile of all is 1.
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
    """Magnitudes changed by a relative ± amplitude from pixel to pixel, as networks that work on patches do."""
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
    "noise": (noise, (0.0, 0.02, 0.04, 0.08, 0.16)),
    "noise on blur": (noise_on_blur, (0.0, 0.02, 0.04, 0.08, 0.16)),
    "checkerboard": (checkerboard, (0.0, 0.05, 0.1, 0.2, 0.4)),
    "aliasing": (aliasing, (1.0, 1.5, 2.0, 3.0, 4.0)),
    "missing anatomy": (missing, (0.0, 0.125, 0.1875, 0.25, 0.375)),
    "mode dropping": (dropped, (1.0, 0.25, 0.1, 0.05, 0.02)),
    "memorised copies": (copied, (0.0, 0.1, 0.25, 0.5, 1.0)),
}
