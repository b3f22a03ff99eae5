"""Missing pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen.operators.base import LinearOperator, Operator, mirrored, randn_like
from mrigen.operators.corruption import CORRUPTIONS, NAIVE, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params


@dataclass(frozen=True, eq=False)
class PixelMask(LinearOperator):
    """A x = M x: pixels outside the mask are zero in the measurement.

    Attributes:
        mask: measured pixels, bool (B or 1, 1 or C, H, W).
        channels: C.
    """

    mask: Tensor
    channels: int

    def forward(self, x: Tensor) -> Tensor:
        """M x."""
        return x * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        """M y."""
        return y * self.mask

    def normal(self, x: Tensor) -> Tensor:
        """M x, for M is a projection."""
        return x * self.mask

    @property
    def is_projection(self) -> bool:
        """Whether N N = N: N = M."""
        return True

    def zero_image(self) -> Tensor:
        """Zeros, float32 (B, C, H, W)."""
        batch, _, height, width = self.mask.shape
        return torch.zeros(batch, self.channels, height, width, device=self.mask.device)

    def conditioning(self) -> Tensor:
        """The mask as float32."""
        return self.mask.float()

    def noise(self, y: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Noise on the measured pixels."""
        return super().noise(y, sigma, generator) * self.mask

    def white_image(self, y: Tensor, sigma: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurement with noise on the missing pixels too."""
        return y + sigma.reshape(-1, 1, 1, 1) * randn_like(y, generator) * ~self.mask, sigma

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """Measurement and mask mirror like the image."""
        return mirrored(y, which, axis), replace(self, mask=mirrored(self.mask, which, axis))

    @classmethod
    def example(cls) -> PixelMask:
        """Two colour images of odd size, masked per channel."""
        generator = torch.Generator().manual_seed(0)
        return cls(torch.rand(2, 3, 7, 5, generator=generator) < 0.5, 3)


class InpaintingParams(Params):
    """Random missing pixels.

    Attributes:
        missing: p, the probability that a pixel is missing.
        further_missing: δ, the probability that a measured pixel is hidden further; 0 for the naive masked
            loss, a baseline.
        per_channel: mask the colours of a pixel independently.
    """

    missing: Annotated[float, Field(ge=0, lt=1)] = 0.6
    further_missing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    per_channel: bool = False


@CORRUPTIONS.register("inpainting")
class RandomInpainting(ImageCorruption):
    """Every pixel is missing with probability p; the further corruption hides measured ones with δ.

    Given Ã, a pixel that it hides was measured with probability δ(1 − p) / (p + δ(1 − p)) > 0: E[AᵀA | Ã]
    is diagonal and positive (Ambient Diffusion, corollary A.1 of theorem 4.1).
    """

    Params = InpaintingParams
    params: InpaintingParams

    def __init__(self, params: InpaintingParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self.baseline = "" if params.further_missing else NAIVE

    def draw(self, batch: int, generator: torch.Generator) -> PixelMask:
        """Independent pixels."""
        channels, height, width = self.shape
        planes = channels if self.params.per_channel else 1
        seen = torch.rand(batch, planes, height, width, generator=generator) >= self.params.missing
        return PixelMask(seen, channels)

    def further(self, operator: Operator, generator: torch.Generator) -> PixelMask:
        """Hide each measured pixel with probability δ."""
        if not isinstance(operator, PixelMask):
            raise TypeError(f"RandomInpainting cannot corrupt a {type(operator).__name__} further")
        kept = torch.rand(operator.mask.shape, generator=generator) >= self.params.further_missing
        return replace(operator, mask=operator.mask & kept.to(operator.mask.device))

    @classmethod
    def example(cls) -> Self:
        """Half of the pixels of colour images of odd size."""
        return cls(InpaintingParams(missing=0.5), (3, 7, 5))
