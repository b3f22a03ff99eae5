"""Nonlinear operators: saturation and phase retrieval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mrigen import fourier
from mrigen.operators.base import Operator
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption
from mrigen.registry import Params
from mrigen.tensors import mirrored


@dataclass(frozen=True, eq=False)
class Clip(Operator):
    """A(x) = min(max(s x, −1), 1), not linear. The measurement looks like an image.

    Attributes:
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.
        scale: s.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.Clip(torch.zeros(1, 1, 1, 2), scale=2.0)
        >>> A(torch.tensor([[[[0.25, 0.75]]]]))
        tensor([[[[0.5000, 1.0000]]]])
    """

    like: Tensor
    scale: float

    def forward(self, x: Tensor) -> Tensor:
        """Clip s x to [−1, 1]."""
        return (self.scale * x).clamp(-1, 1)

    def as_image(self, y: Tensor) -> Tensor:
        """Return y."""
        return y

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """The measurement mirrors like the image."""
        return mirrored(y, which, axis), self

    @classmethod
    def example(cls) -> Clip:
        """Two colour images of odd size."""
        return cls(torch.zeros(2, 3, 7, 5), 2.0)


class ClippingParams(Params):
    """Overexposure.

    Attributes:
        scale: s, by which the image's range exceeds what is recorded.
    """

    scale: Annotated[float, Field(gt=0)] = 2.0


@CORRUPTIONS.register("clipping")
class Clipping(ImageCorruption):
    """The same overexposure for every image; nothing is random, nor linear."""

    Params = ClippingParams
    params: ClippingParams
    ambient_obstacle = f"clipping is not linear and {FIXED}"

    def draw(self, batch: int, rng: torch.Generator) -> Clip:
        """The clipping."""
        del rng
        return Clip(self.zeros(batch), self.params.scale)

    @classmethod
    def example(cls) -> Self:
        """Colour images of odd size."""
        return cls(ClippingParams(), (3, 7, 5))


@dataclass(frozen=True, eq=False)
class FourierMagnitude(Operator):
    """A(x) = |F P x|, not linear: P surrounds the image with zeros, F is the centred transform.

    F is orthonormal, so that ‖A(x)‖ = ‖x‖. Measurements are real (B, C, H + 2a, W + 2b).

    Attributes:
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.
        margin: a rows and b columns of zeros on each side.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.FourierMagnitude.example()
        >>> x = A.zero_image() + 1
        >>> torch.allclose(A(x), A(-x))  # the sign is lost
        True
    """

    like: Tensor
    margin: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        """|F P x|."""
        a, b = self.margin
        return fourier.fft(functional.pad(x, (b, b, a, a))).abs()

    def as_image(self, y: Tensor) -> Tensor:
        """The image that would have these magnitudes if every phase were zero: Pᵀ Re Fᴴ y."""
        a, b = self.margin
        full = fourier.ifft(y).real
        image = full[..., a : full.shape[-2] - a, b : full.shape[-1] - b]
        return image.to(self.like.dtype)

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    @classmethod
    def example(cls) -> FourierMagnitude:
        """Two colour images of odd size, oversampled about twice."""
        return cls(torch.zeros(2, 3, 7, 5), (3, 2))


class PhaseRetrievalParams(Params):
    """Magnitudes of an oversampled transform.

    Attributes:
        oversampling: factor by which each side is lengthened with zeros; 2 makes the magnitudes
            determine an image up to shift, inversion and sign in all but rare cases.
    """

    oversampling: Annotated[float, Field(ge=1)] = 2.0


@CORRUPTIONS.register("phase-retrieval")
class PhaseRetrieval(ImageCorruption):
    """The same magnitudes for every image; nothing is random, nor linear."""

    Params = PhaseRetrievalParams
    params: PhaseRetrievalParams
    ambient_obstacle = f"phase retrieval is not linear and {FIXED}"

    def draw(self, batch: int, rng: torch.Generator) -> FourierMagnitude:
        """The magnitudes."""
        del rng
        a, b = (round((self.params.oversampling - 1) * length / 2) for length in self.shape[1:])
        return FourierMagnitude(self.zeros(batch), (a, b))

    @classmethod
    def example(cls) -> Self:
        """Colour images of odd size."""
        return cls(PhaseRetrievalParams(), (3, 7, 5))
