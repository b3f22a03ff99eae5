"""Non-Cartesian MRI, with or without coil maps: radial and spiral sampling.

The non-uniform Fourier transform is sigpy's,

    (F x)_j = (HW)^{-1/2} Σ_n x_n exp(−2πi (k_j1 (n_1 − H//2) / H + k_j2 (n_2 − W//2) / W)),

with k in cycles per field of view: at the points of the Cartesian grid it is ``mrigen.fourier.fft``. It works
on the CPU, wherever the tensors are; AᴴA is a convolution (``mrigen.operators.toeplitz``) on their device.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import CORRUPTIONS, NAIVE, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.operators.toeplitz import response, toeplitz
from mrigen.registry import Params
from mrigen.tensors import COMPLEX_OF

GOLDEN = (math.sqrt(5) - 1) / 2
OVERSAMPLING = 2.0
WIDTH = 6
WIDTH_OF_LAGS = 8


@dataclass(frozen=True, eq=False)
class NonCartesianMRI(LinearOperator):
    """A x = K F S x on the arms of a trajectory (spokes, interleaves).

    S multiplies by coil maps, F is the non-uniform Fourier transform (``mrigen.operators.non_cartesian``), K
    zeroes the arms that are not measured. Images are real or complex (B, 1, H, W), measurements complex
    (B, coils, arms, samples), with one coil where there are no maps. For real images the adjoint is
    Re Aᴴ y, which belongs to the inner product Re Σ conj(a)·b.

    As an image the measurement is Σ_c conj(S_c) Fᴴ D y_c, D being the area of k-space that each
    sample stands for, so that a fully sampled image comes back as it is.

    Attributes:
        trajectory: (B or 1, arms, samples, 2) in cycles per field of view, rows first.
        area: D in grid cells of k-space, (B or 1, arms, samples), as if all arms were measured.
        kept: arms that are measured, bool (B or 1, arms).
        like: a zero image (B or 1, 1, H, W) that says shape, kind and device.
        maps: coil sensitivities, complex (B or 1, coils, H, W), or None.

    Raises:
        ValueError: images of several channels.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.NonCartesianMRI.example()
        >>> x = torch.randn_like(A.zero_image())
        >>> torch.allclose(A.H(A(x)), A.normal(x), atol=1e-3)
        True
    """

    trajectory: Tensor
    area: Tensor
    kept: Tensor
    like: Tensor
    maps: Tensor | None = None

    def __post_init__(self) -> None:
        if self.like.ndim != 4 or self.like.shape[1] != 1:
            raise ValueError(f"images must be (B, 1, H, W), not {tuple(self.like.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """K F S x."""
        coils = x if self.maps is None else self.maps * x
        y = nufft(coils, self.trajectory.flatten(1, 2))
        return y.view(*y.shape[:2], *self.trajectory.shape[1:3]) * self._arms

    def adjoint(self, y: Tensor) -> Tensor:
        """Σ_c conj(S_c) Fᴴ K y_c, its real part for real images."""
        height, width = self.like.shape[-2:]
        coils = nufft_adjoint((y * self._arms).flatten(2), self.trajectory.flatten(1, 2), (height, width))
        image = coils if self.maps is None else (self.maps.conj() * coils).sum(1, keepdim=True)
        return image if self.like.is_complex() else image.real

    def normal(self, x: Tensor) -> Tensor:
        """Σ_c conj(S_c) Fᴴ K F S_c x, its real part for real images, as a convolution: see
        ``mrigen.operators.toeplitz``.

        Equals ``adjoint(forward(x))`` but for the error of these, 1e-5 of its norm; its own is 1e-6. The
        first call makes t, which costs an adjoint of one coil at twice the image's size. It works on the
        tensors' device.
        """
        return toeplitz(*self._convolution, x)

    @cached_property
    def _convolution(self) -> tuple[Tensor, Tensor]:
        """Maps, 1 where there are none, and the transform of t."""
        height, width = self.like.shape[-2:]
        weights = self.kept[..., None].expand(-1, -1, self.trajectory.shape[2]).flatten(1)
        with torch.inference_mode(mode=False), torch.no_grad():
            seen = response(lags(self.trajectory.flatten(1, 2), weights, (height, width)))
            ones = _complex(torch.ones_like(self.like[:1]))
            return ones if self.maps is None else self.maps, seen.to(self.like.real.dtype)

    def as_image(self, y: Tensor) -> Tensor:
        """The density-compensated adjoint; the measured arms stand for those that were not."""
        share = self.kept.float().mean(1).clamp(min=1 / self.kept.shape[1])
        return self.adjoint(y * (self.area / share[:, None, None])[:, None])

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    def conditioning(self) -> Tensor:
        """Sampling density on the Cartesian grid, float32 (B, 1, H, W): Re F_cart Fᴴ K 1.

        For a trajectory of grid points this is their mask.
        """
        ones = self._arms.expand(len(self.like), 1, *self.trajectory.shape[1:3]).to(self.like)
        height, width = self.like.shape[-2:]
        spread = nufft_adjoint(ones.flatten(2), self.trajectory.flatten(1, 2), (height, width))
        return fourier.fft(spread).real.float()

    def noise(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """Complex noise of standard deviation σ per component on the measured arms."""
        return super().noise(y, sigma, rng) * self._arms

    @property
    def _arms(self) -> Tensor:
        return self.kept[:, None, :, None]

    @classmethod
    def example(cls) -> Self:
        """Two slices of odd size, three coils, other trajectories, an arm missing in one."""
        rng = torch.Generator().manual_seed(0)
        like = torch.zeros(2, 1, 9, 8, dtype=torch.complex64)
        trajectory = (torch.rand(2, 4, 10, 2, generator=rng) - 0.5) * torch.tensor([9.0, 8.0])
        maps = torch.randn(2, 3, 9, 8, dtype=torch.complex64, generator=rng)
        kept = torch.tensor([[True] * 4, [True, False, True, True]])
        return cls(trajectory, torch.ones(2, 4, 10), kept, like, maps)


class ArmParams(Params):
    """Arms of a trajectory.

    Attributes:
        arms: spokes or interleaves of an image.
        samples: of one arm; by default twice the image's longer side.
        angles: ``random``, each independent; ``golden`` or ``equispaced`` from a random first one.
        further_drop: arms that the further corruption drops; 0 for the naive masked loss, a baseline.
        image: whether the images are ``real`` or ``complex``.
    """

    arms: Annotated[int, Field(ge=1)] = 32
    samples: Annotated[int, Field(ge=2)] | None = None
    angles: Literal["random", "golden", "equispaced"] = "random"
    further_drop: Annotated[int, Field(ge=0)] = 1
    image: Literal["real", "complex"] = "real"


class ArmCorruption(ImageCorruption):
    """Rotated copies of one arm in images (1, H, W), without coil maps.

    The further corruption drops r random arms. With random angles the others do not tell where
    these were, and

        E[AᴴA | Ã] = ÃᴴÃ + r T,  T = E_θ[A_θᴴ A_θ] of one arm at a random angle.

    T has full rank: a sample of the arm at radius k > 0 moves on an ellipse of k-space, on which the
    plane waves exp(−2πi k·n) of the pixels n are linearly independent. The corners of k-space, which
    the arms do not reach, have small eigenvalues. Golden-angle and equispaced arms reveal the missing
    ones (Ambient Diffusion, theorem 4.1).

    Attributes:
        period: angle after which arms repeat, in radians.
    """

    params: ArmParams
    period: ClassVar[float]

    def __init__(self, params: ArmParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        if shape[0] != 1:
            raise UsageError(f"non-Cartesian MRI needs images of one channel, not {shape[0]}")
        if params.further_drop > params.arms:
            raise UsageError(f"cannot drop {params.further_drop} of {params.arms} arms; lower further_drop")
        if params.angles != "random":
            self.ambient_obstacle = (
                f"the surviving {params.angles} arms reveal the missing ones; use angles: random"
            )
        self.baseline = "" if params.further_drop else NAIVE
        self._path, self._area = self.arm(params.samples or 2 * max(shape[1:]))

    @abstractmethod
    def arm(self, samples: int) -> tuple[Tensor, Tensor]:
        """One arm in the unit disc.

        Returns:
            Complex positions (samples,), real part along the columns, and the share (samples,) of the
            disc's area that each sample of a full set of arms covers, times the number of arms.
        """

    def draw(self, batch: int, rng: torch.Generator) -> NonCartesianMRI:
        """Arms at the angles that the parameters say, one set per sample."""
        count, (_, height, width) = self.params.arms, self.shape
        if self.params.angles == "random":
            turns = torch.rand(batch, count, generator=rng)
        else:
            step = GOLDEN if self.params.angles == "golden" else 1 / count
            turns = torch.rand(batch, 1, generator=rng) + step * torch.arange(count)
        angles = self.period * turns.double()
        path = torch.polar(torch.ones_like(angles), angles)[..., None] * self._path
        trajectory = torch.stack([path.imag * (height / 2), path.real * (width / 2)], -1)
        disc = math.pi * height * width / 4
        area = (self._area * disc / count).expand(1, count, -1)
        kept = torch.ones(batch, count, dtype=torch.bool)
        dtype = torch.complex64 if self.params.image == "complex" else torch.float32
        return NonCartesianMRI(trajectory.float(), area.float(), kept, self.zeros(batch, dtype))

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> NonCartesianMRI:
        """Drop random arms."""
        if not isinstance(operator, NonCartesianMRI):
            raise TypeError(f"{type(self).__name__} cannot corrupt a {type(operator).__name__} further")
        score = torch.rand(operator.kept.shape, generator=rng).to(operator.kept.device)
        rank = score.masked_fill(~operator.kept, 2.0).argsort(1).argsort(1)
        return replace(operator, kept=operator.kept & (rank >= self.params.further_drop))


@CORRUPTIONS.register("radial")
class Radial(ArmCorruption):
    """Straight spokes through the centre of k-space, from edge to edge."""

    Params = ArmParams
    period = math.pi

    def arm(self, samples: int) -> tuple[Tensor, Tensor]:
        """Radii t_i = (2 i − n) / n rounded down to hit 0; half of an annulus, or the centre's disc."""
        t = 2 * (torch.arange(samples, dtype=torch.float64) - samples // 2) / samples
        step = 2 / samples
        share = torch.where(t == 0, step**2 / 4, t.abs() * step)
        return torch.complex(t, torch.zeros_like(t)), share

    @classmethod
    def example(cls) -> Self:
        """5 spokes for images of odd size."""
        return cls(ArmParams(arms=5), (1, 9, 8))


class SpiralParams(ArmParams):
    """Archimedean interleaves.

    Attributes:
        turns: of one interleaf from the centre to the edge of k-space.
    """

    turns: Annotated[float, Field(gt=0)] = 4.0


@CORRUPTIONS.register("spiral")
class Spiral(ArmCorruption):
    """Archimedean spirals from the centre of k-space outwards, k(s) = s exp(2πi · turns · s)."""

    Params = SpiralParams
    params: SpiralParams
    period = 2 * math.pi

    def arm(self, samples: int) -> tuple[Tensor, Tensor]:
        """Radii s_i = i / (n − 1); the annulus around each."""
        s = torch.linspace(0, 1, samples, dtype=torch.float64)
        edges = torch.cat([s[:1], (s[1:] + s[:-1]) / 2, s[-1:]])
        return torch.polar(s, 2 * math.pi * self.params.turns * s), edges[1:] ** 2 - edges[:-1] ** 2

    @classmethod
    def example(cls) -> Self:
        """5 interleaves for images of odd size."""
        return cls(SpiralParams(arms=5, turns=1.5), (1, 9, 8))


def nufft(x: Tensor, trajectory: Tensor) -> Tensor:
    """F x of images on one or several trajectories.

    Args:
        x: (B, coils, H, W), real or complex.
        trajectory: (B or 1, points, 2) in cycles per field of view, rows first.

    Returns:
        Complex (B, coils, points), accurate to 1e-5 of its norm.
    """
    return _Forward.apply(_complex(x), trajectory)  # type: ignore[no-any-return]


def nufft_adjoint(y: Tensor, trajectory: Tensor, size: tuple[int, int]) -> Tensor:
    """Fᴴ y, the exact adjoint of ``nufft``: complex (B, coils, points) to (B, coils, H, W)."""
    return _Adjoint.apply(_complex(y), trajectory, size)  # type: ignore[no-any-return]


def lags(trajectory: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
    """The lags t of Fᴴ W F, see ``mrigen.operators.toeplitz``.

    Args:
        trajectory: (B or 1, points, 2) in cycles per field of view, rows first.
        weights: real (B or 1, points).
        size: H, W.

    Returns:
        complex128 (B, 1, 2 H − 1, 2 W − 1), accurate to 1e-6 of its norm.
    """
    from sigpy import nufft_adjoint as transform

    shape = tuple(2 * n - 1 for n in size)
    batch = max(len(trajectory), len(weights))
    values = weights.to(torch.complex128).expand(batch, -1)[:, None]
    stretch = torch.tensor([lag / n for lag, n in zip(shape, size, strict=True)], dtype=torch.float64)
    points = trajectory.double() * stretch.to(trajectory.device)
    scale = math.prod(shape) ** 0.5 / math.prod(size)
    sums = _each(
        values, points, lambda v, k: transform(v, k, (*v.shape[:-1], *shape), OVERSAMPLING, WIDTH_OF_LAGS)
    )
    return sums.mul_(scale)


def _complex(x: Tensor) -> Tensor:
    """The same numbers as complex ones of the same precision."""
    return x if x.is_complex() else x.to(COMPLEX_OF[x.dtype])


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, trajectory: Tensor) -> Tensor:
        from sigpy import nufft as transform

        ctx.save_for_backward(trajectory)
        ctx.size = x.shape[-2:]
        return _each(x, trajectory, lambda v, k: transform(v, k, OVERSAMPLING, WIDTH))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (trajectory,) = ctx.saved_tensors
        return nufft_adjoint(gradients[0], trajectory, ctx.size), None


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, trajectory: Tensor, size: tuple[int, int]) -> Tensor:
        from sigpy import nufft_adjoint as transform

        ctx.save_for_backward(trajectory)
        return _each(y, trajectory, lambda v, k: transform(v, k, (*v.shape[:-1], *size), OVERSAMPLING, WIDTH))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (trajectory,) = ctx.saved_tensors
        return nufft(gradients[0], trajectory), None, None


def _each(values: Tensor, trajectory: Tensor, transform: Any) -> Tensor:
    """Transform a whole batch at once where all share a trajectory, else sample by sample."""
    arrays, points = values.detach().cpu().resolve_conj().numpy(), trajectory.cpu().numpy()
    parts = [arrays] if len(points) == 1 else [arrays[i : i + 1] for i in range(len(arrays))]
    done = [torch.from_numpy(transform(a, k)) for a, k in zip(parts, points, strict=True)]
    return torch.cat(done).to(values)
