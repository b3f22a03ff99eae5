"""Sampled Fourier transforms of single images: one receive coil of uniform sensitivity."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mrigen.operators import fourier
from mrigen.operators.base import LinearOperator, Operator, batch_size, randn_like
from mrigen.operators.corruption import ImageCorruption
from mrigen.registry import Params


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
        axes = (-1,) if self.mask.shape[-2] == 1 else fourier.PLANE
        return self._kind(fourier.project(x, self.mask, axes))

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

    def noise(self, y: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Complex noise of standard deviation σ per component on the sampled points."""
        return super().noise(y, sigma, generator) * self.mask

    def white_image(self, y: Tensor, sigma: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The zero-filled image with noise at the missing points too."""
        missing = sigma.reshape(-1, 1, 1, 1) * randn_like(y, generator) * ~self.mask
        return self._kind(fourier.ifft(y * self.mask + missing)), sigma

    def _kind(self, x: Tensor) -> Tensor:
        return x if self.like.is_complex() else x.real

    @classmethod
    def example(cls) -> FourierMask:
        """Two real colour images of odd width, a different mask of points for each."""
        generator = torch.Generator().manual_seed(0)
        return cls(torch.rand(2, 1, 8, 5, generator=generator) < 0.5, torch.zeros(2, 3, 8, 5))


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
    def masks(self, batch: int, generator: torch.Generator) -> Tensor:
        """M ~ p(M), bool (batch, 1, 1 or H, W)."""

    @abstractmethod
    def smaller(self, mask: Tensor, generator: torch.Generator) -> Tensor:
        """M̃ ~ p(M̃ | M), M̃ ⊂ M."""

    def draw(self, batch: int, generator: torch.Generator) -> FourierMask:
        """One mask per sample."""
        dtype = torch.complex64 if self.params.image == "complex" else torch.float32
        return FourierMask(self.masks(batch, generator), self.zeros(batch, dtype))

    def further(self, operator: Operator, generator: torch.Generator) -> FourierMask:
        """Drop a few of the sampled points outside the centre."""
        if not isinstance(operator, FourierMask):
            raise TypeError(f"{type(self).__name__} cannot corrupt a {type(operator).__name__} further")
        mask = self.smaller(operator.mask.cpu(), generator)
        return replace(operator, mask=mask.to(operator.mask.device))
