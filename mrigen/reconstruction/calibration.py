"""Posterior samples whose spread is calibrated by measured k-space that the solver is not shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mrigen import fourier, seeds
from mrigen.errors import UsageError
from mrigen.operators import MultiCoilMRI
from mrigen.operators.masks.base import centred, sampled_centre
from mrigen.reconstruction.sources import Batch, Source

LEVEL = 0.9
NORMAL = 1.6448536269514722  # half width of a 90 % interval in standard deviations of a normal law
ASIDE = 0.2  # share of what is measured outside the fully sampled centre
FEWEST_SAMPLES = 4
FEWEST_COMPONENTS = 200  # of a band of frequencies
SLICES = 48  # of one line each: factors vary by some 5 %


@dataclass(frozen=True)
class Calibration:
    """Factors on the deviations of posterior samples from their mean, and the width of 90 % intervals.

    Measured points that no sample was shown say how large errors are. Their real components differ from the
    mean of the S samples by e; σ² is the noise's variance there, and v + w the samples': v of the part of
    their deviations along the phase of the mean, which is brightness, w of the part across it. In each band
    of spatial frequencies λ² = Σ (e² − σ² − w (1 + 1/S)) / Σ v (1 + 1/S): errors are as large as predicted,
    and what exceeds the spread counts as brightness. Split conformal prediction (Papadopoulos et al. 2002;
    Lei et al., "Distribution-free predictive inference for regression", JASA 2018) then finds the smallest q
    for which 90 % of the components (with the correction for finitely many) are at most q predicted
    deviations from the mean. Whether it holds is seen by taking both from either half of the points and
    checking the other (cross-conformal, Vovk 2015). Frequencies within the first band have its factor.

    Attributes:
        edges: where bands meet, in periods per image, from the centre outwards.
        factors: λ of each band, one more than edges.
        quantile: q; 1.645 for normal errors and many samples.
        points: real components that these were found from.
        coverage: share of the components within intervals from the other half; 0.9 is right.
        uncalibrated: share within those of normal errors with λ = 1.
        slices: number of slices that the points are of.
    """

    edges: tuple[float, ...]
    factors: tuple[float, ...]
    quantile: float
    points: int
    coverage: float
    uncalibrated: float
    slices: int

    @classmethod
    def of(cls, first: Deviations, second: Deviations, slices: int) -> Calibration:
        """From both halves of what was put aside; its coverage is of each half by the other."""
        every = Deviations.joined([first, second])
        inside = 0.0
        for fit, check in ((first, second), (second, first)):
            one = cls._fitted(fit)
            inside += len(check.error) * check.coverage(one.factor(check.radius), one.quantile)
        return replace(
            cls._fitted(every),
            coverage=inside / len(every.error),
            uncalibrated=every.coverage(torch.ones(()), NORMAL),
            slices=slices,
        )

    @classmethod
    def _fitted(cls, fit: Deviations) -> Calibration:
        edges = fit.edges()
        band = torch.bucketize(fit.radius, torch.tensor(edges), right=True)
        factors = tuple(fit.chosen(band == index).factor() for index in range(len(edges) + 1))
        one = cls(edges, factors, NORMAL, len(fit.error), 0.0, 0.0, 0)
        return replace(one, quantile=fit.quantile(one.factor(fit.radius)))

    @property
    def note(self) -> str:
        """One line for the console and the report."""
        low, high = self.factors[0], self.factors[-1]
        words = f"{low:.3g} at low to {high:.3g} at high frequencies" if self.edges else f"{low:.3g}"
        coverage, uncalibrated = 100 * self.coverage, 100 * self.uncalibrated
        return (
            f"standard deviations are the samples' times {words}, 90 % intervals reach {self.quantile:.3g} "
            f"of them, as {self.points} measured components that were put aside ask for; {coverage:.1f} % "
            f"lie in intervals from the other half of them, {uncalibrated:.1f} % in those of the plain spread"
        )

    def factor(self, radius: Tensor) -> Tensor:
        """λ of frequencies in periods per image."""
        bands = torch.bucketize(radius, torch.tensor(self.edges), right=True)
        return torch.tensor(self.factors)[bands]

    def calibrated(self, images: Tensor) -> Tensor:
        """Samples (n, S, 1, H, W) spread as their mean errs: brightness times λ, and the rest."""
        mean, along, across = parted(images, 1)
        factor = self.factor(fourier.radii(*images.shape[-2:]))
        scaled = fourier.ifft(factor * fourier.fft(along)) + across
        return mean + scaled * math.sqrt(1 + 1 / images.shape[1])

    def row(self) -> dict[str, Any]:
        """For ``metrics.json`` and the attributes of the standard deviation."""
        return {
            "level": LEVEL,
            "factors": list(self.factors),
            "edges": list(self.edges),
            "quantile": self.quantile,
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
        variance: v (1 + 1/S) of the samples' brightness, per real component, (n,).
        noise: what else is expected, σ² + w (1 + 1/S), (n,).
        radius: distance of the points from DC in periods per image, (n,).
    """

    error: Tensor
    variance: Tensor
    noise: Tensor
    radius: Tensor

    def factor(self) -> float:
        """λ of errors that are as large as predicted; 0 where they are no larger than noise."""
        excess = (self.error.square().double().sum() - self.noise.double().sum()).clamp(min=0)
        return float((excess / self.variance.double().sum()).sqrt())

    def scores(self, factor: Tensor) -> Tensor:
        """Errors in predicted standard deviations, for λ of each or of all."""
        return self.error / (factor.square() * self.variance + self.noise).sqrt()

    def quantile(self, factor: Tensor) -> float:
        """The smallest q with the share of ``LEVEL`` inside, finitely many components accounted for."""
        scores = self.scores(factor).sort().values
        return float(scores[min(math.ceil((len(scores) + 1) * LEVEL), len(scores)) - 1])

    def coverage(self, factor: Tensor, quantile: float) -> float:
        """Share of the components inside their intervals."""
        return float((self.scores(factor) <= quantile).double().mean())

    def edges(self) -> tuple[float, ...]:
        """Powers of √2 in periods per image, with ``FEWEST_COMPONENTS`` between them and beyond the last."""
        edges, inner = [], 0.0
        for half_octave in range(2 * math.ceil(math.log2(1 + float(self.radius.max()))) + 1):
            edge = 2 ** (half_octave / 2)
            within = int(((self.radius >= inner) & (self.radius < edge)).sum())
            if min(within, int((self.radius >= edge).sum())) >= FEWEST_COMPONENTS:
                edges.append(edge)
                inner = edge
        return tuple(edges)

    def chosen(self, where: Tensor) -> Deviations:
        """Some of the components."""
        return Deviations(self.error[where], self.variance[where], self.noise[where], self.radius[where])

    @classmethod
    def of(cls, slice_: Batch, images: Tensor, aside: Tensor) -> Deviations:
        """What samples (S, 1, H, W) of one slice say of lines or points (1, 1, 1 or H, W) of its k-space."""
        whole = MultiCoilMRI(_multi_coil(slice_).maps.cpu(), torch.ones_like(aside))
        mean, along, across = (torch.view_as_real(whole.forward(part)) for part in parted(images.cpu(), 0))
        error = (torch.view_as_real(slice_.data.y[0].cpu()) - mean[0]).abs()
        count = len(images)
        brightness, rest = ((1 + 1 / count) * part.square().sum(0) / (count - 1) for part in (along, across))
        where = aside[0].expand(error.shape[:-1])
        noise = rest + slice_.data.sigma.cpu() ** 2
        radius = fourier.radii(*error.shape[1:3])[..., None].expand_as(error)
        smallest = torch.finfo(error.dtype).tiny
        every = cls(error, brightness.clamp(min=smallest), noise, radius).chosen(where)
        return cls(*(tensor.flatten() for tensor in vars(every).values()))

    @classmethod
    def joined(cls, parts: list[Deviations]) -> Deviations:
        """Those of several slices."""
        return cls(*(torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])))


def parted(images: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of samples along ``axis``, and their deviations along its phase and across it."""
    mean = images.mean(axis, keepdim=True)
    phase = torch.polar(torch.ones_like(mean.abs()), mean.angle())
    turned = (images - mean) * phase.conj()
    return mean, turned.real * phase, 1j * turned.imag * phase


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


def put_aside(slice_: Batch, key: int, turn: int) -> tuple[Tensor, Tensor]:
    """A fifth of the measured lines, or points, outside a slice's centre, in two halves (1, 1, 1 or H, W).

    At least one. The line at the edge of the centre may be among them, for the frequencies there, unless it
    is DC's neighbour. They are drawn one after the other with probabilities in proportion to 1/k, for points
    1/k², k their distance from DC, so that every octave of frequencies has about as many.

    Args:
        slice_: the slice.
        key: of the draw.
        turn: counts the slices; of an odd number of lines the first half has more, or the second.

    Raises:
        UsageError: this is no k-space of coils.
    """
    mask = _multi_coil(slice_).mask.cpu()
    height, width = mask.shape[-2:]
    side = sampled_centre(mask[0, 0])
    if height == 1 and side > 3:
        side -= 1
    outside = ~(centred(height, side if height > 1 else 1)[:, None] & centred(width, side))
    where = (mask & outside).flatten().nonzero().flatten()
    halves = torch.zeros(2, mask.numel(), dtype=torch.bool)
    if len(where):
        distance = fourier.radii(height, width).flatten()[where].double()
        chances = distance ** (-1 if height == 1 else -2)
        count = max(1, round(ASIDE * len(where)))
        order = where[chances.multinomial(count, generator=seeds.seeded_rng(key, "aside"))]
        halves[turn % 2, order[::2]], halves[1 - turn % 2, order[1::2]] = True, True
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
