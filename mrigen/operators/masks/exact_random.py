"""Random lines with an exact budget, the masks of the Ambient-MRI models."""

import torch
from torch import Tensor

from mrigen.operators.masks.base import MASKS, MaskLaw, random_subset


@MASKS.register("exact-random")
class ExactRandom(MaskLaw):
    """Exactly floor(n / R) of n acquired lines: the ACS lines and uniformly random others.

    Every non-ACS line is measured with the same probability, whatever the further mask shows, so
    that theorem 4.1 of Ambient Diffusion holds.
    """

    def draw(self, acquired: Tensor, generator: torch.Generator) -> Tensor:
        """Draw masks with exactly floor(n / R) lines each; see ``MaskLaw.draw``."""
        acs = self.acs(1, acquired.shape[1]) & acquired
        budget = torch.tensor([int(n // self.params.acceleration) for n in acquired.sum(1).tolist()])
        return acs | random_subset(acquired & ~acs, budget - acs.sum(1), generator)
