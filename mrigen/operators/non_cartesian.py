"""Non-Cartesian MRI, with or without coil maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mrigen.operators import fourier
from mrigen.operators.base import LinearOperator
from mrigen.operators.nufft import nufft, nufft_adjoint


@dataclass(frozen=True, eq=False)
class NonCartesianMRI(LinearOperator):
    """A x = K F S x on the arms of a trajectory (spokes, interleaves).

    S multiplies by coil maps, F is the non-uniform Fourier transform (``mrigen.operators.nufft``), K
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

    def noise(self, y: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Complex noise of standard deviation σ per component on the measured arms."""
        return super().noise(y, sigma, generator) * self._arms

    @property
    def _arms(self) -> Tensor:
        return self.kept[:, None, :, None]

    @classmethod
    def example(cls) -> Self:
        """Two slices of odd size, three coils, other trajectories, an arm missing in one."""
        generator = torch.Generator().manual_seed(0)
        like = torch.zeros(2, 1, 9, 8, dtype=torch.complex64)
        trajectory = (torch.rand(2, 4, 10, 2, generator=generator) - 0.5) * torch.tensor([9.0, 8.0])
        maps = torch.randn(2, 3, 9, 8, dtype=torch.complex64, generator=generator)
        kept = torch.tensor([[True] * 4, [True, False, True, True]])
        return cls(trajectory, torch.ones(2, 4, 10), kept, like, maps)
