"""A rectangle of missing pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import Operator
from mrigen.operators.corruption import CORRUPTIONS, FIXED, ImageCorruption, Shape
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.noise import Noise
from mrigen.registry import Params

Pixels = Annotated[int, Field(ge=1)]
Size = Annotated[
    tuple[Pixels, Pixels] | Pixels, AfterValidator(lambda v: v if isinstance(v, tuple) else (v, v))
]
"""(h, w), or one number for a square."""


class BoxParams(Params):
    """A rectangle within the image.

    Attributes:
        size: its height and width in pixels, or one number for both.
        position: ``random`` anywhere in the image, drawn per sample, or always in the ``centre``.
    """

    size: Size = (16, 16)
    position: Literal["random", "centre"] = "random"


class BoxCorruption(ImageCorruption):
    """What corruptions by a rectangle share."""

    Params = BoxParams
    params: BoxParams

    def __init__(self, params: BoxParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self.size: tuple[int, int] = params.size  # type: ignore[assignment]
        (h, w), (_, height, width) = self.size, shape
        if h > height or w > width or (h, w) == (height, width):
            raise UsageError(
                f"a box of {h} x {w} pixels must be smaller than the image of {height} x {width}"
            )

    def boxes(self, batch: int, generator: torch.Generator) -> Tensor:
        """Rectangles as bool (batch, 1, H, W), by the law that the parameters say."""
        corners = []
        for side, length in zip(self.size, self.shape[1:], strict=True):
            if self.params.position == "random":
                corners.append(torch.randint(length - side + 1, (batch,), generator=generator))
            else:
                corners.append(torch.full((batch,), (length - side) // 2))
        return rectangles(corners, self.size, self.shape)


def rectangles(corners: list[Tensor], size: tuple[int, int], shape: Shape) -> Tensor:
    """Rectangles of one size by their first row and column (B,): bool (B, 1, H, W)."""
    rows, columns = (
        (torch.arange(length) >= first[:, None]) & (torch.arange(length) < first[:, None] + side)
        for first, side, length in zip(corners, size, shape[1:], strict=True)
    )
    return (rows[:, :, None] & columns[:, None, :])[:, None]


@CORRUPTIONS.register("missing-box")
class MissingBox(BoxCorruption):
    """The pixels of a rectangle are missing.

    The further corruption hides a rectangle twice as high and wide (at most the image) around the
    missing one, at a uniformly random place among those within the image. With c_i the probability
    that the missing rows include row i given that larger rectangle, and d_j the same for columns,

        E[AᵀA | Ã] = diag(1 − c_i d_j),

    which is positive where the missing rectangle has room to avoid the pixel: everywhere, if it is
    at most half as high or half as wide as the image (Ambient Diffusion, theorem 4.1).
    """

    def __init__(self, params: BoxParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self._hidden = [min(2 * side, length) for side, length in zip(self.size, shape[1:], strict=True)]
        if params.position != "random":
            self.reason = f"a box that is always at the same place {FIXED}"
        elif all(larger < 2 * side for larger, side in zip(self._hidden, self.size, strict=True)):
            self.reason = (
                "a box of more than half of the image's height and width always covers its centre, which is "
                "never measured; use a smaller box, or standard or tweedie"
            )

    def draw(self, batch: int, generator: torch.Generator) -> PixelMask:
        """One rectangle per sample."""
        return PixelMask(~self.boxes(batch, generator), self.shape[0])

    def further(self, operator: Operator, generator: torch.Generator) -> PixelMask:
        """Hide a larger rectangle around the missing one."""
        if not isinstance(operator, PixelMask):
            raise TypeError(f"MissingBox cannot corrupt a {type(operator).__name__} further")
        missing = ~operator.mask.cpu()
        corners = []
        for axis, (larger, side) in enumerate(zip(self._hidden, self.size, strict=True)):
            length = self.shape[1 + axis]
            first = missing.any(3 - axis)[:, 0].float().argmax(1)
            low, high = (first + side - larger).clamp(min=0), first.clamp(max=length - larger)
            share = torch.rand(len(first), generator=generator)
            corners.append(low + (share * (high - low + 1)).long().clamp(max=high - low))
        hidden = rectangles(corners, (self._hidden[0], self._hidden[1]), self.shape)
        return replace(operator, mask=operator.mask & ~hidden.to(operator.mask.device))

    @classmethod
    def example(cls) -> Self:
        """A box of 3 x 2 pixels in colour images of odd size."""
        return cls(BoxParams(size=(3, 2)), (3, 7, 5))
