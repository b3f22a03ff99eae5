"""Uniformly random points, for two phase encodes."""

import torch
from torch import Tensor

from mrigen.operators.masks.base import MASKS, MaskParams, PointLaw, random_subset


@MASKS.register("random-points")
class RandomPoints(PointLaw):
    """Exactly floor(n / R) of n points: a full centre, the others uniformly random.

    With b measured points outside the centre of which the further corruption drops r, all sets of r
    points among those that M̃ lacks are equally likely to have been dropped, so that each of these was
    measured with probability r / (n - b + r) > 0 for n points outside the centre: theorem 4.1 of Ambient
    Diffusion holds (Daras et al. 2023).
    """

    def points(self, acquired: Tensor, generator: torch.Generator) -> Tensor:
        """See ``PointLaw.points``."""
        acs = self.acs(*acquired.shape[1:]) & acquired
        around = torch.tensor([self.budget(a) - int(c.sum()) for a, c in zip(acquired, acs, strict=True)])
        thrown = random_subset((acquired & ~acs).flatten(1), around, generator)
        return acs | thrown.view_as(acquired)

    @classmethod
    def example(cls) -> "RandomPoints":
        """R = 3 with a centre of 4 x 4."""
        return cls(MaskParams(acceleration=3, acs_lines=4))
