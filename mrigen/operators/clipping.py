"""Saturated images: the loss of a high dynamic range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen.operators.base import Operator, mirrored
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption
from mrigen.registry import Params


@dataclass(frozen=True, eq=False)
class Clip(Operator):
    """A(x) = min(max(s x, −1), 1), not linear. The measurement looks like an image.

    Attributes:
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.
        scale: s.
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
    reason = f"clipping is not linear and {FIXED}"

    def draw(self, batch: int, generator: torch.Generator) -> Clip:
        """The clipping."""
        del generator
        return Clip(self.zeros(batch), self.params.scale)

    @classmethod
    def example(cls) -> Self:
        """Colour images of odd size."""
        return cls(ClippingParams(), (3, 7, 5))
