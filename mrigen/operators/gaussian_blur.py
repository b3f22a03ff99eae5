"""Gaussian blur."""

from __future__ import annotations

from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.blur import Blur, check_reach
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params


class GaussianBlurParams(Params):
    """A truncated Gaussian; the defaults are those of RSD and DCD.

    Attributes:
        size: rows and columns of the kernel, odd.
        std: σ_G in pixels.
    """

    size: Annotated[int, Field(ge=1)] = 9
    std: Annotated[float, Field(gt=0)] = 2.0


def gaussian_kernel(size: int, std: float) -> Tensor:
    """k[i, j] ∝ exp(−(i² + j²) / 2 std²) for |i|, |j| ≤ size // 2, of sum 1; float32 (size, size)."""
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    line = (-0.5 * (offset / std) ** 2).exp()
    line /= line.sum()
    return torch.outer(line, line).float()


@CORRUPTIONS.register("gaussian-blur")
class GaussianBlur(ImageCorruption):
    """The same Gaussian kernel for every image; nothing is random."""

    Params = GaussianBlurParams
    reason = f"a Gaussian blur {FIXED}"

    def __init__(self, params: GaussianBlurParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        if params.size % 2 == 0:
            raise UsageError(f"gaussian-blur: size {params.size} must be odd; take {params.size + 1}")
        check_reach((params.size, params.size), shape)
        self._kernel = gaussian_kernel(params.size, params.std)[None, None]

    def draw(self, batch: int, generator: torch.Generator) -> Blur:
        """The blur."""
        del generator
        return Blur(self._kernel, self.zeros(batch))

    @classmethod
    def example(cls) -> Self:
        """Colour images of odd size."""
        return cls(GaussianBlurParams(size=5, std=1.5), (3, 7, 5))
