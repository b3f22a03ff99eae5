"""What a distribution over operators shows of images, and what it never shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mrigen import fourier, seeds
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator, linear
from mrigen.operators.corruption import Corruption
from mrigen.operators.fourier_masks import FourierMask
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.mri import MRICorruption, MultiCoilMRI
from mrigen.tensors import batch_size

DRAWS, AT_ONCE, SLICES = 20_000, 200, 16
FEWEST, EXPECTED = 2000, 30  # draws at least, and how often two directions should be measured together
DENSE, DENSE_DRAWS = 1024, 16
PAIRED = 2048  # directions between which pairs are counted
ATTENUATED = 1e-6  # of the largest eigenvalue of E[AᴴA]: what float32 measures no more
PIXELS, KSPACE = "pixels", "k-space"


@dataclass(frozen=True)
class Recoverability:
    """Whether the distribution of images x can be learnt from samples of y = A x + σ ε and their A.

    A direction that no A measures can be changed at will without any effect on y: a full rank of E[AᴴA] is
    necessary (Tachella et al., "Sensing theorems for unsupervised learning in linear inverse problems",
    JMLR 2023), and gives the mean of x. Where every two directions are measured together by one A now and
    then, the covariance is determined as well, and with it all joint laws of directions that one A measures.
    The whole law is determined where A loses nothing now and then. Noise of known law is no obstacle as long
    as its characteristic function has no zero, which a Gaussian's has not. ``obstacle`` is about mrigen's
    ambient objectives only: E[AᴴA | Ã] of full rank (Daras et al., "Ambient Diffusion", 2023, theorem 4.1).

    Attributes:
        directions: number of pixels, of lines or points of k-space, or of the image's numbers.
        unmeasured: how many of them no A measures.
        where: which these are; empty if there are none.
        least: the smallest share of the A that measure a direction, or the smallest eigenvalue of E[AᴴA]
            relative to the largest.
        together: the smallest share of the A that measure two directions; None where it is not known.
        complete: share of the A that lose nothing.
        coils: receive coils; several see something of k-space beside what is measured.
        noise: whether its law is known.
        obstacle: why ambient objectives cannot be used; empty where they can.
        draws: number of A.

    Examples:
        >>> import mrigen as mg
        >>> missing = mg.operators.make_corruption({"name": "inpainting", "missing": 0.6}, (1, 8, 8))
        >>> mg.operators.recoverability(missing).verdict
        'yes'
    """

    directions: int
    unmeasured: int
    where: str
    least: float
    together: float | None
    complete: float
    coils: int
    noise: bool
    obstacle: str
    draws: int

    @property
    def verdict(self) -> str:
        """``yes``, ``in part`` (all directions are measured, but not all pairs) or ``no``."""
        if self.unmeasured:
            return "no"
        return "in part" if self.complete == 0 and self.together == 0 else "yes"

    @property
    def reasons(self) -> list[str]:
        """Sentences, the most important first."""
        lines = []
        if self.unmeasured:
            lines.append(f"never measured: {self.where}")
            if self.coils > 1:
                lines.append(f"the maps of {self.coils} coils may tell something of it, with much noise")
        elif self.complete > 0:
            lines.append(f"the whole law is determined: {self.complete:.2g} of the samples lose nothing")
        elif self.together is None:
            lines.append("the mean is determined; whether pairs are measured together is not known")
        elif self.together > 0:
            lines.append(
                "mean and covariance are determined: every two directions are measured together, by "
                f"{self.together:.2g} of the samples or more"
            )
        else:
            lines.append("the mean is determined, the covariance is not: no sample measures some pairs")
        if not self.unmeasured:
            lines.append(f"the direction that is measured least has a share of {self.least:.2g}")
        lines.append(
            "noise is no obstacle: its law is known"
            if self.noise
            else "the noise level is unknown: the law is determined up to a Gaussian blur of it"
        )
        lines.append(f"ambient objectives: {'no, ' + self.obstacle if self.obstacle else 'yes'}")
        return lines


def recoverability(
    corruption: Corruption, *, noise: bool = True, draws: int = DRAWS, seed: int = 0
) -> Recoverability:
    """What p(A) shows of images.

    Masks of pixels, of k-space and of k-space of coils are counted; of other linear operators the mean of AᴴA
    is decomposed, for images of at most 1,024 numbers.

    Args:
        corruption: p(A).
        noise: whether the noise level is known.
        draws: masks at most; of other operators there are at most 16.
        seed: of the draws.

    Raises:
        UsageError: an operator that is not linear, or too large an image.

    Examples:
        >>> import mrigen as mg
        >>> box = {"name": "missing-box", "size": 2, "position": "centre"}
        >>> p = mg.operators.recoverability(mg.operators.make_corruption(box, (1, 8, 8)))
        >>> p.verdict, p.reasons[0]
        ('no', 'never measured: 4 of 64 pixels: rows 3 to 4, columns 3 to 4')
    """
    rng = seeds.seeded_rng(seed, "recoverability")
    operator = corruption.draw(1, rng)
    known = (noise, corruption.ambient_obstacle)
    if not isinstance(operator, PixelMask | FourierMask | MultiCoilMRI):
        return _decomposed(corruption, min(draws, DENSE_DRAWS), rng, *known)
    coils = operator.maps.shape[1] if isinstance(operator, MultiCoilMRI) else 1
    domain = PIXELS if isinstance(operator, PixelMask) else KSPACE
    return _counted(_masks(corruption, draws, rng), domain, coils, *known)


def _masks(corruption: Corruption, draws: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Masks (n, 1 or H, W); a point of a real image's k-space is known by its mirror point too.

    Lines that a scanner never acquires, zero-padded edges, are no part of the images.
    """
    if isinstance(corruption, MRICorruption):
        yield from _scanned(corruption, draws, rng)
        return
    for first in range(0, draws, AT_ONCE):
        operator: Any = corruption.draw(min(AT_ONCE, draws - first), rng)
        mask = operator.mask.all(1)
        if isinstance(operator, FourierMask) and not operator.like.is_complex():
            mask = mask | _mirrored(mask)
        yield mask


def _scanned(corruption: MRICorruption, draws: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Masks by the law of the data, for the lines of the first slice; or those of the slices, each once."""
    slices = len(corruption.maps)
    if not corruption.fresh:
        for first in range(0, min(slices, draws), SLICES):
            indices = list(range(first, min(first + SLICES, slices, draws)))
            _, mask, acquired = corruption.maps.maps_and_masks(indices)
            yield mask[:, 0] | ~acquired[:, None]
        return
    maps, _, acquired = corruption.maps.maps_and_masks([0])
    for first in range(0, draws, AT_ONCE):
        every = acquired.expand(min(AT_ONCE, draws - first), -1)
        mask = corruption.mask_distribution.sample(every, maps.shape[-2], rng)
        yield mask[:, 0] | ~every[:, None]


def _mirrored(mask: Tensor) -> Tensor:
    """Values at −k, with DC at n // 2 of both axes."""
    axes = [axis for axis in (-2, -1) if mask.shape[axis] > 1]
    even = [1 - mask.shape[axis] % 2 for axis in axes]
    return mask.flip(axes).roll(even, axes)


def _counted(masks: Iterator[Tensor], domain: str, coils: int, noise: bool, obstacle: str) -> Recoverability:
    """How often each direction is measured, and each two of at most ``PAIRED`` of them.

    Draws end when every two would be measured together ``EXPECTED`` times if they were independent.
    """
    count, complete = 0, 0
    seen, pairs = torch.zeros(()), torch.zeros(())
    shape: tuple[int, ...] = ()
    for part in masks:
        shape, flat = part.shape[1:], part.flatten(1).float()
        step = -(-flat.shape[1] // PAIRED)
        chosen = flat[:, ::step]
        count, complete = count + len(flat), complete + int(flat.all(1).sum())
        seen, pairs = seen + flat.sum(0), pairs + chosen.T @ chosen
        least = float(seen.min())
        if count >= FEWEST and (least == 0 or least**2 / count >= EXPECTED):
            break
    expected = torch.outer(seen[::step], seen[::step]) / count
    together: float | None = float(pairs.min()) / count
    if together == 0 and float(expected[pairs == 0].max()) < EXPECTED / 2:
        together = None  # too few draws to say
    lost = (seen == 0).view(shape)
    return Recoverability(
        directions=lost.numel(),
        unmeasured=int(lost.sum()),
        where=regions(lost, domain) if lost.any() else "",
        least=float(seen.min()) / count,
        together=together,
        complete=complete / count,
        coils=coils,
        noise=noise,
        obstacle=obstacle,
        draws=count,
    )


def _decomposed(
    corruption: Corruption, draws: int, rng: torch.Generator, noise: bool, obstacle: str
) -> Recoverability:
    """Directions that the mean of AᴴA maps to zero, and the frequencies that they are of."""
    total, losing = torch.zeros(()), 0
    for _ in range(draws):
        operator = corruption.draw(1, rng)
        matrix = _normal_matrix(operator)
        values = torch.linalg.eigvalsh(matrix)
        losing += bool(values[0] <= ATTENUATED * values[-1])
        total = total + matrix / draws
    values, vectors = torch.linalg.eigh(total)
    lost = vectors[:, values <= ATTENUATED * values[-1]].T
    where = ""
    if len(lost):
        spectrum = fourier.fft(lost.view(-1, *operator.zero_image().shape[1:])).abs().square().sum((0, 1))
        low, high = _range_of(spectrum)
        where = f"{len(lost)} of {len(values)} directions, of {low:.2g} to {high:.2g} periods per image"
    return Recoverability(
        directions=len(values),
        unmeasured=len(lost),
        where=where,
        least=float(values[0].clamp(min=0) / values[-1]),
        together=None,
        complete=1 - losing / draws,
        coils=1,
        noise=noise,
        obstacle=obstacle,
        draws=draws,
    )


def _range_of(spectrum: Tensor) -> tuple[float, float]:
    """Distances from DC between which nine tenths of a spectrum (H, W) lie."""
    height, width = spectrum.shape
    rows, columns = (torch.arange(side) - side // 2 for side in (height, width))
    radius, order = torch.hypot(rows[:, None].float(), columns.float()).flatten().sort()
    share = spectrum.flatten()[order].cumsum(0)
    ends = torch.searchsorted(share, share[-1] * torch.tensor([0.05, 0.95]))
    return float(radius[ends[0]]), float(radius[ends[1]])


def _normal_matrix(operator: Operator) -> Tensor:
    """AᴴA of one sample, (n, n).

    Raises:
        UsageError: A is not linear, or the image has too many numbers.
    """
    one: LinearOperator = linear(operator)
    zero = one.zero_image()
    assert batch_size(one) == 1
    n = zero.numel()
    if n > DENSE:
        raise UsageError(
            f"{type(one).__name__}: AᴴA is decomposed, and {' x '.join(map(str, zero.shape[1:]))} is too "
            f"large an image for that; give a shape of at most {DENSE} numbers"
        )
    basis = torch.eye(n, dtype=zero.dtype).view(n, *zero.shape[1:])
    columns = torch.cat([one.normal(column[None]) for column in basis])
    matrix = columns.flatten(1).T
    return (matrix + matrix.mH) / 2


def regions(where: Tensor, domain: str) -> str:
    """Words for directions, bool (1 or H, W), by rows and columns from 0 on; DC is at H // 2, W // 2."""
    height = len(where)
    names = {PIXELS: "pixels", KSPACE: "lines of k-space" if height == 1 else "points of k-space"}
    count = f"{int(where.sum())} of {where.numel()} {names[domain]}"
    rows, columns = (where.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    if height == 1:
        return f"{count}: {_ranges(columns)}"
    if int(where.sum()) == len(rows) * len(columns):
        return f"{count}: rows {_ranges(rows)}, columns {_ranges(columns)}"
    first = ", ".join(f"({row}, {column})" for row, column in where.nonzero()[:4].tolist())
    return f"{count}: {first}{', ...' if int(where.sum()) > 4 else ''}"


def _ranges(numbers: list[int]) -> str:
    """3 to 5, 9."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join(" to ".join(map(str, part)) for part in parts)
