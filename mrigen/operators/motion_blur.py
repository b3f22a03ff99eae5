"""Blur by a straight movement of the camera."""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
from pydantic import AfterValidator
from torch import Tensor

from mrigen.operators.blur import Blur, check_reach
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.registry import Params

POINTS_PER_PIXEL = 16


def _ordered(value: float | tuple[float, float]) -> float | tuple[float, float]:
    low, high = bounds(value)
    if not -math.inf < low <= high < math.inf:
        raise ValueError("needs one finite number, or two with the lower first")
    return value


def _positive(value: float | tuple[float, float]) -> float | tuple[float, float]:
    if bounds(value)[0] <= 0:
        raise ValueError("must be positive")
    return value


Range = Annotated[float | tuple[float, float], AfterValidator(_ordered)]
"""One number, or two for a uniform draw between them."""


class MotionBlurParams(Params):
    """A movement at constant speed along a straight line.

    Attributes:
        length: of the line in pixels; two numbers draw it uniformly between them for each sample.
        angle: of the line in degrees, counter-clockwise from the horizontal; two numbers as above.
    """

    length: Annotated[Range, AfterValidator(_positive)] = 9.0
    angle: Range = (0.0, 180.0)


def bounds(value: float | tuple[float, float]) -> tuple[float, float]:
    """Both ends of a range."""
    return value if isinstance(value, tuple) else (value, value)


def motion_kernel(length: Tensor, angle: Tensor, reach: int) -> Tensor:
    """Kernels of straight movements.

    k[i, j] = ∫ tri(i − v(t)) tri(j − u(t)) dt over t in [−½, ½], with (u, v) = length · t ·
    (cos angle, −sin angle) and the triangle tri(a) = max(0, 1 − |a|) of bilinear interpolation, by
    the midpoint rule with 16 points to the pixel. The sum is 1 and the centre of mass is the centre.

    Args:
        length: in pixels, (B,).
        angle: in degrees, (B,).
        reach: half of the kernel's size; at least length / 2 + 1.

    Returns:
        float32 (B, 1, 2 reach + 1, 2 reach + 1).
    """
    count = POINTS_PER_PIXEL * math.ceil(float(length.max()))
    t = (torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5
    radians = torch.deg2rad(angle.double())[:, None]
    along = length.double()[:, None] * t
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    rows = (1 - (offset + (along * radians.sin())[..., None]).abs()).relu()
    columns = (1 - (offset - (along * radians.cos())[..., None]).abs()).relu()
    return (rows.mT @ columns / count)[:, None].float()


@CORRUPTIONS.register("motion-blur")
class MotionBlur(ImageCorruption):
    """Straight movements, the same for all samples or of random length and direction.

    A random blur is no further corruption of another: what one of them removes cannot be
    predicted from what another leaves.
    """

    Params = MotionBlurParams
    params: MotionBlurParams
    reason = f"a motion blur {FIXED}"

    def __init__(self, params: MotionBlurParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self._reach = math.floor(bounds(params.length)[1] / 2) + 1
        check_reach((2 * self._reach + 1, 2 * self._reach + 1), shape)

    def draw(self, batch: int, generator: torch.Generator) -> Blur:
        """One movement per sample."""
        length, angle = (
            low + (high - low) * torch.rand(batch, generator=generator)
            for low, high in (bounds(self.params.length), bounds(self.params.angle))
        )
        return Blur(motion_kernel(length, angle, self._reach), self.zeros(batch))

    @classmethod
    def example(cls) -> Self:
        """Random movements in colour images of odd size."""
        return cls(MotionBlurParams(length=(2.0, 5.0)), (3, 7, 5))
