"""Masks that came with the data: undersampled at the scanner, by a law that nobody wrote down."""

import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.masks.base import MASKS, MaskLaw


@MASKS.register("measured")
class Measured(MaskLaw):
    """Each slice's own mask, of lines or of points; only the further corruption is ours.

    ``acceleration`` and ``acs_lines`` describe the masks that were found. Whether theorem 4.1 of
    Ambient Diffusion holds is up to the scanner: every point must have been measured in some slice.
    """

    def draw(self, acquired: Tensor, generator: torch.Generator) -> Tensor:
        """Refuse: another mask would ask for lines that were not measured."""
        del acquired, generator
        raise UsageError(
            "these data were undersampled at the scanner: no new masks can be drawn; "
            "take maps and masks together from the store (fresh masks: false)"
        )
