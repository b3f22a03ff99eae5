"""Posterior samples whose spread is calibrated by measured k-space that the solver is not shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.operators import MultiCoilMRI
from mrigen.operators.masks.base import centred, sampled_centre
from mrigen.reconstruction.sources import Batch, Source

LEVEL = 0.9
QUANTILE = 1.6448536269514722  # half width of a 90 % interval in standard deviations of a normal law
ASIDE = 0.2  # share of what is measured outside the fully sampled centre
FEWEST_SAMPLES = 4
SLICES = 16


@dataclass(frozen=True)
class Calibration:
    """A factor on the standard deviation of posterior samples, and what it was found from.

    Split conformal prediction (Papadopoulos et al. 2002; Lei et al., "Distribution-free predictive inference
    for regression", JASA 2018): ``factor`` is the smallest λ for which 90 % of the real components r of
    measured points that no sample was shown (with the correction for finitely many) are at most
    1.645 √(λ² v (1 + 1/S) + σ²) from the mean of the S samples there, v their variance, σ the noise. Other
    points that were put aside, which λ does not depend on, tell whether it holds.

    Attributes:
        factor: λ.
        points: real components that λ was found from.
        coverage: share of the other ones within their intervals; 0.9 is right.
        uncalibrated: the same with λ = 1.
        slices: number of slices that the points are of.
    """

    factor: float
    points: int
    coverage: float
    uncalibrated: float
    slices: int

    @classmethod
    def of(cls, fit: Deviations, check: Deviations, slices: int) -> Calibration:
        """The factor of one set of deviations, and its coverage of another."""
        factor = fit.factor()
        return cls(factor, len(fit.error), check.coverage(factor), check.coverage(1.0), slices)

    @property
    def note(self) -> str:
        """One line for the console and the report."""
        return (
            f"standard deviations are the samples' times {self.factor:.3g}, so that 90 % of {self.points} "
            f"measured components that were put aside lie in their 90 % intervals; of as many others "
            f"{100 * self.coverage:.1f} % do ({100 * self.uncalibrated:.1f} % without the factor)"
        )

    def interval(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of the 90 % intervals of magnitudes (n, 1, H, W) of samples (n, S, 1, H, W)."""
        magnitudes = images.abs()
        half = QUANTILE * self.factor * (1 + 1 / images.shape[1]) ** 0.5 * magnitudes.std(1)
        return (magnitudes.mean(1) - half).clamp(min=0), magnitudes.mean(1) + half

    def row(self) -> dict[str, Any]:
        """For ``metrics.json`` and the attributes of the standard deviation."""
        return {
            "level": LEVEL,
            "factor": self.factor,
            "points": self.points,
            "coverage_put_aside": self.coverage,
            "coverage_put_aside_uncalibrated": self.uncalibrated,
            "slices": self.slices,
        }


@dataclass(frozen=True, eq=False)
class Deviations:
    """Real components of measured points, how far they are from the samples' mean, and what was expected.

    Attributes:
        error: distances (n,).
        variance: v (1 + 1/S) of the samples, per real component, (n,).
        noise: σ² of the data, (n,).
    """

    error: Tensor
    variance: Tensor
    noise: Tensor

    def factor(self) -> float:
        """The smallest λ with the share of ``LEVEL`` inside, finitely many components accounted for."""
        needed = ((self.error / QUANTILE).square() - self.noise).clamp(min=0) / self.variance
        rank = math.ceil((len(needed) + 1) * LEVEL)
        return float(needed.sort().values[min(rank, len(needed)) - 1].sqrt())

    def coverage(self, factor: float) -> float:
        """Share of the components inside their intervals."""
        inside = self.error <= QUANTILE * (factor**2 * self.variance + self.noise).sqrt()
        return float(inside.double().mean())

    @classmethod
    def of(cls, slice_: Batch, images: Tensor, aside: Tensor) -> Deviations:
        """What samples (S, 1, H, W) of one slice say of lines or points (1, 1, 1 or H, W) of its k-space."""
        whole = MultiCoilMRI(_multi_coil(slice_).maps.cpu(), torch.ones_like(aside))
        predicted = torch.view_as_real(whole.forward(images.cpu()))
        error = (torch.view_as_real(slice_.data.y[0].cpu()) - predicted.mean(0)).abs()
        variance = predicted.var(0) * (1 + 1 / len(images))
        where = aside[0].expand(error.shape[:-1])
        noise = (slice_.data.sigma.cpu() ** 2).expand_as(error)
        smallest = torch.finfo(error.dtype).tiny
        return cls(
            error[where].flatten(), variance[where].flatten().clamp(min=smallest), noise[where].flatten()
        )

    @classmethod
    def joined(cls, parts: list[Deviations]) -> Deviations:
        """Those of several slices."""
        return cls(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("error", "variance", "noise"))
        )


def require_calibration(source: Source, samples: int) -> None:
    """Refuse what cannot be calibrated, before anything is reconstructed.

    Raises:
        UsageError: says why.
    """
    if not source.complex_valued:
        raise UsageError(
            "--calibrate is for k-space, of which a part is put aside; leave it out for pictures"
        )
    if samples < FEWEST_SAMPLES:
        raise UsageError(
            f"--calibrate needs the spread of posterior samples: give --samples {FEWEST_SAMPLES} or more"
        )


def put_aside(slice_: Batch, key: int) -> tuple[Tensor, Tensor]:
    """A fifth of the measured lines, or points, outside a slice's centre, in two halves (1, 1, 1 or H, W).

    Raises:
        UsageError: this is no k-space of coils.
    """
    mask = _multi_coil(slice_).mask.cpu()
    height, width = mask.shape[-2:]
    side = sampled_centre(mask[0, 0])
    outside = ~(centred(height, side if height > 1 else 1)[:, None] & centred(width, side))
    where = (mask & outside).flatten().nonzero().flatten()
    count = max(2, round(ASIDE * len(where)))
    order = where[torch.randperm(len(where), generator=seeds.seeded_rng(key, "aside"))[:count]]
    halves = torch.zeros(2, mask.numel(), dtype=torch.bool)
    halves[0, order[::2]], halves[1, order[1::2]] = True, True
    return halves[0].view_as(mask), halves[1].view_as(mask)


def without(slice_: Batch, aside: tuple[Tensor, Tensor]) -> Batch:
    """The slice with less measured: what was put aside is not shown."""
    operator = _multi_coil(slice_)
    kept = operator.mask & ~(aside[0] | aside[1]).to(operator.mask.device)
    data = replace(slice_.data, y=slice_.data.y * kept, operator=MultiCoilMRI(operator.maps, kept))
    return replace(slice_, data=data)


def _multi_coil(batch: Batch) -> MultiCoilMRI:
    operator = batch.data.operator
    if not isinstance(operator, MultiCoilMRI):
        raise UsageError("--calibrate is for Cartesian k-space of coils; leave it out")
    return operator
