"""Sampled Fourier transforms of single images: one receive coil of uniform sensitivity."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import CORRUPTIONS, NAIVE, ImageCorruption, Shape
from mrigen.operators.masks import MASKS, MaskDistribution
from mrigen.operators.masks.base import centred, random_subset
from mrigen.operators.masks.points import poisson
from mrigen.operators.noise import Noise
from mrigen.registry import Params
from mrigen.tensors import batch_size, randn_like


@dataclass(frozen=True, eq=False)
class FourierMask(LinearOperator):
    """A x = M F x, for real or complex images; the measurement is complex (B, C, H, W).

    F is the centred orthonormal transform. For real images the adjoint is Re Fᴴ M y, which belongs
    to the inner product Re Σ conj(a)·b.

    Attributes:
        mask: sampled points, bool (B or 1, 1, 1, W) for lines or (B or 1, 1, H, W); DC in the centre.
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.

    Raises:
        ValueError: the mask does not fit the image.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> mask = mg.masks.random_points((8, 8), acceleration=2, centre=2)
        >>> A = mg.operators.FourierMask(mask[None, None], torch.zeros(1, 1, 8, 8))
        >>> int((A(torch.randn(1, 1, 8, 8)) != 0).sum())
        32
    """

    mask: Tensor
    like: Tensor

    def __post_init__(self) -> None:
        height, width = self.like.shape[-2:]
        if self.mask.ndim != 4 or tuple(self.mask.shape[1:]) not in {(1, 1, width), (1, height, width)}:
            raise ValueError(
                f"mask must be (B, 1, 1, {width}) or (B, 1, {height}, {width}), not {tuple(self.mask.shape)}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """M F x."""
        return fourier.fft(x) * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        """Fᴴ M y, its real part for real images."""
        return self._kind(fourier.ifft(y * self.mask))

    def normal(self, x: Tensor) -> Tensor:
        """Fᴴ M F x; lines need no transform along the readout."""
        return self._kind(fourier.project(x, *self._response).resolve_conj())

    @cached_property
    def _response(self) -> tuple[Tensor, fourier.Axes]:
        axes = (-1,) if self.mask.shape[-2] == 1 else fourier.PLANE
        with torch.inference_mode(mode=False):
            return fourier.response(self.mask, axes, self.like.real.dtype), axes

    @property
    def is_projection(self) -> bool:
        """Whether N N = N: for complex images. Re Fᴴ M F halves a point whose mirror point is missing."""
        return self.like.is_complex()

    def norm_bound(self) -> Tensor:
        """1, the norm of F and of M."""
        return self.like.real.new_ones(batch_size(self))

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    def conditioning(self) -> Tensor:
        """The mask as a float32 channel (B, 1, H, W)."""
        batch = max(len(self.mask), len(self.like))
        return self.mask.float().expand(batch, 1, *self.like.shape[-2:])

    def noise(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """Complex noise of standard deviation σ per component on the sampled points."""
        return super().noise(y, sigma, rng) * self.mask

    def whitened_image(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The zero-filled image with noise at the missing points too."""
        missing = sigma.reshape(-1, 1, 1, 1) * randn_like(y, rng) * ~self.mask
        return self._kind(fourier.ifft(y * self.mask + missing)), sigma

    def _kind(self, x: Tensor) -> Tensor:
        return x if self.like.is_complex() else x.real

    @classmethod
    def example(cls) -> FourierMask:
        """Two real colour images of odd width, a different mask of points for each."""
        rng = torch.Generator().manual_seed(0)
        return cls(torch.rand(2, 1, 8, 5, generator=rng) < 0.5, torch.zeros(2, 3, 8, 5))


class FourierParams(Params):
    """What corruptions by Fourier masks share.

    Attributes:
        image: whether the images are ``real`` or ``complex``.
    """

    image: Literal["real", "complex"] = "real"


class FourierCorruption(ImageCorruption):
    """A law of Fourier masks, and of smaller masks within them.

    Where P(M = 1 | M̃) > 0 at every point, E[AᴴA | Ã] = Fᴴ diag P(M = 1 | M̃) F has full rank.
    """

    params: FourierParams

    @abstractmethod
    def masks(self, batch: int, rng: torch.Generator) -> Tensor:
        """M ~ p(M), bool (batch, 1, 1 or H, W)."""

    @abstractmethod
    def smaller(self, mask: Tensor, rng: torch.Generator) -> Tensor:
        """M̃ ~ p(M̃ | M), M̃ ⊂ M."""

    def draw(self, batch: int, rng: torch.Generator) -> FourierMask:
        """One mask per sample."""
        dtype = torch.complex64 if self.params.image == "complex" else torch.float32
        return FourierMask(self.masks(batch, rng), self.zeros(batch, dtype))

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> FourierMask:
        """Drop a few of the sampled points outside the centre."""
        if not isinstance(operator, FourierMask):
            raise TypeError(f"{type(self).__name__} cannot corrupt a {type(operator).__name__} further")
        mask = self.smaller(operator.mask.cpu(), rng)
        return replace(operator, mask=mask.to(operator.mask.device))


def _complete(spec: dict[str, Any]) -> dict[str, Any]:
    return {"name": spec.get("name"), **MASKS.params(spec).model_dump(mode="json", exclude_none=True)}


class FourierLinesParams(FourierParams):
    """Lines of k-space.

    Attributes:
        mask: distribution of the lines in a recipe's notation, ``name`` and parameters.
    """

    mask: Annotated[dict[str, Any], AfterValidator(_complete)] = {"name": "exact-random", "acceleration": 4}


@CORRUPTIONS.register("fourier-lines")
class FourierLines(FourierCorruption):
    """Lines of k-space along H, drawn by a mask distribution, which says whether theorem 4.1 holds.

    For ``exact-random`` with N lines, b of them measured and r dropped further, every line that M̃
    lacks outside the ACS was measured with probability r / (N − b + r).
    """

    Params = FourierLinesParams
    params: FourierLinesParams

    def __init__(self, params: FourierLinesParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self._mask_distribution: MaskDistribution = MASKS.build(params.mask)
        self._mask_distribution.check(torch.ones(shape[2], dtype=torch.bool))
        self.ambient_obstacle, self.baseline = (
            self._mask_distribution.ambient_obstacle,
            self._mask_distribution.baseline,
        )

    def masks(self, batch: int, rng: torch.Generator) -> Tensor:
        """Lines, bool (batch, 1, 1, W)."""
        every = torch.ones(batch, self.shape[2], dtype=torch.bool)
        return self._mask_distribution.draw(every, rng)[:, None, None]

    def smaller(self, mask: Tensor, rng: torch.Generator) -> Tensor:
        """Drop lines outside the ACS."""
        return self._mask_distribution.corrupt_further(mask, rng)

    @classmethod
    def example(cls) -> Self:
        """Complex images of odd width, half of the lines."""
        mask = {"name": "exact-random", "acceleration": 2, "acs_lines": 3, "further_drop": 2}
        return cls(FourierLinesParams(image="complex", mask=mask), (1, 8, 13))


class PointParams(FourierParams):
    """Points of k-space.

    Attributes:
        acceleration: R, points per measured one.
        centre: side of the fully sampled square around DC.
        further_drop: share of the measured points outside the centre that the further corruption
            drops, at least one point; 0 for the naive masked loss, a baseline.
    """

    acceleration: Annotated[float, Field(gt=1)] = 4.0
    centre: Annotated[int, Field(ge=0)] = 8
    further_drop: Annotated[float, Field(ge=0, lt=1)] = 0.1


class PointCorruption(FourierCorruption):
    """What masks of points share: a full centre, and a further mask that lacks points around it."""

    Params = PointParams
    params: PointParams

    def __init__(self, params: PointParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self.baseline = "" if params.further_drop else NAIVE
        _, height, width = shape
        self.budget = int(height * width // params.acceleration)
        if params.centre > min(height, width) or params.centre**2 >= self.budget:
            raise UsageError(
                f"acceleration {params.acceleration:g} measures {self.budget} of {height} x {width} points: "
                f"too few for a centre of {params.centre} x {params.centre}; lower the acceleration or the "
                "centre"
            )
        self.centre = centred(height, params.centre)[:, None] & centred(width, params.centre)

    def smaller(self, mask: Tensor, rng: torch.Generator) -> Tensor:
        """Drop points outside the centre."""
        free = (mask & ~self.centre).flatten(1)
        count = (free.sum(1) * self.params.further_drop).round().long()
        count = count.clamp(min=1 if self.params.further_drop else 0)
        return mask & ~random_subset(free, count, rng).view(mask.shape)


@CORRUPTIONS.register("fourier-points")
class FourierPoints(PointCorruption):
    """Exactly b = floor(HW / R) points: a full centre, the others uniformly random.

    With N = HW and r points dropped further, all sets of r points among those that M̃ lacks are
    equally likely to have been dropped, so that each of these was measured with probability
    r / (N − b + r) > 0: theorem 4.1 of Ambient Diffusion holds.
    """

    def masks(self, batch: int, rng: torch.Generator) -> Tensor:
        """Points, bool (batch, 1, H, W)."""
        around = (~self.centre).flatten().expand(batch, -1)
        count = torch.full((batch,), self.budget - int(self.centre.sum()))
        return self.centre | random_subset(around, count, rng).view(batch, 1, *self.shape[1:])

    @classmethod
    def example(cls) -> Self:
        """Half of the points of real colour images of odd size."""
        return cls(PointParams(acceleration=2, centre=3), (3, 7, 9))


class PoissonParams(PointParams):
    """Poisson-disc points, denser towards the centre.

    Attributes:
        patterns: how many different patterns there are; one of 320 x 320 points takes seconds.
        crop_corner: leave out the corners of k-space.
    """

    patterns: Annotated[int, Field(ge=1)] = 16
    crop_corner: bool = True


@CORRUPTIONS.register("fourier-poisson")
class FourierPoisson(PointCorruption):
    """One of a number of Poisson-disc patterns with exactly floor(HW / R) points.

    The patterns are few and their points keep their distance, so that M̃ tells which pattern M was:
    P(M = 1 | M̃) is zero at every point that this lacks (Ambient Diffusion, theorem 4.1).
    """

    Params = PoissonParams
    params: PoissonParams
    ambient_obstacle = (
        "the surviving Poisson-disc points reveal which pattern they belong to, and with it what was never "
        "measured; use fourier-points"
    )

    def __init__(self, params: PoissonParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self._pattern(0)

    def masks(self, batch: int, rng: torch.Generator) -> Tensor:
        """Patterns, bool (batch, 1, H, W)."""
        which = torch.randint(self.params.patterns, (batch,), generator=rng).tolist()
        return torch.stack([self._pattern(number) for number in which])

    def _pattern(self, number: int) -> Tensor:
        corner = self.params.crop_corner
        return poisson(self.shape[1:], self.budget, self.params.centre, number, crop_corner=corner)

    @classmethod
    def example(cls) -> Self:
        """A third of the points of real images of odd size."""
        return cls(PoissonParams(acceleration=3, centre=3, patterns=4), (1, 17, 19))
