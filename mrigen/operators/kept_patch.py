"""Only a rectangle of the image is measured."""

from __future__ import annotations

from typing import Self

import torch

from mrigen.operators.corruption import CORRUPTIONS
from mrigen.operators.inpainting import PixelMask
from mrigen.operators.missing_box import BoxCorruption, BoxParams


@CORRUPTIONS.register("kept-patch")
class KeptPatch(BoxCorruption):
    """All pixels but those of a rectangle are missing.

    There is no further corruption for ambient training: whatever is left of a patch shows about
    where it lies, and E[AᵀA | Ã] is zero at the pixels that are further from it than the patch is
    wide (Ambient Diffusion, theorem 4.1).
    """

    reason = (
        "pixels that lie further apart than a patch is wide are never measured together; "
        "use standard or tweedie, or random inpainting"
    )

    def draw(self, batch: int, generator: torch.Generator) -> PixelMask:
        """One rectangle per sample."""
        return PixelMask(self.boxes(batch, generator), self.shape[0])

    @classmethod
    def example(cls) -> Self:
        """A patch of 4 x 3 pixels of colour images of odd size."""
        return cls(BoxParams(size=(4, 3)), (3, 7, 5))
