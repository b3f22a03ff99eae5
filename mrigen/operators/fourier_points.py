"""Random points of the Fourier plane."""

from __future__ import annotations

from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.corruption import CORRUPTIONS, NAIVE, Shape
from mrigen.operators.fourier_mask import FourierCorruption, FourierParams
from mrigen.operators.masks.base import centred, random_subset
from mrigen.operators.noise import Noise


class PointParams(FourierParams):
    """Points of k-space.

    Attributes:
        acceleration: R, points per measured one.
        centre: side of the fully sampled square around DC.
        further_drop: share of the measured points outside the centre that the further corruption
            drops, at least one point; 0 for the naive masked loss, a baseline.
    """

    acceleration: Annotated[float, Field(gt=1)] = 4.0
    centre: Annotated[int, Field(ge=0)] = 8
    further_drop: Annotated[float, Field(ge=0, lt=1)] = 0.1


class PointCorruption(FourierCorruption):
    """What masks of points share: a full centre, and a further mask that lacks points around it."""

    Params = PointParams
    params: PointParams

    def __init__(self, params: PointParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self.baseline = "" if params.further_drop else NAIVE
        _, height, width = shape
        self.budget = int(height * width // params.acceleration)
        if params.centre > min(height, width) or params.centre**2 >= self.budget:
            raise UsageError(
                f"acceleration {params.acceleration:g} measures {self.budget} of {height} x {width} points: "
                f"too few for a centre of {params.centre} x {params.centre}; lower the acceleration or the "
                "centre"
            )
        self.centre = centred(height, params.centre)[:, None] & centred(width, params.centre)

    def smaller(self, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Drop points outside the centre."""
        free = (mask & ~self.centre).flatten(1)
        count = (free.sum(1) * self.params.further_drop).round().long()
        count = count.clamp(min=1 if self.params.further_drop else 0)
        return mask & ~random_subset(free, count, generator).view(mask.shape)


@CORRUPTIONS.register("fourier-points")
class FourierPoints(PointCorruption):
    """Exactly b = floor(HW / R) points: a full centre, the others uniformly random.

    With N = HW and r points dropped further, all sets of r points among those that M̃ lacks are
    equally likely to have been dropped, so that each of these was measured with probability
    r / (N − b + r) > 0: theorem 4.1 of Ambient Diffusion holds.
    """

    def masks(self, batch: int, generator: torch.Generator) -> Tensor:
        """Points, bool (batch, 1, H, W)."""
        around = (~self.centre).flatten().expand(batch, -1)
        count = torch.full((batch,), self.budget - int(self.centre.sum()))
        return self.centre | random_subset(around, count, generator).view(batch, 1, *self.shape[1:])

    @classmethod
    def example(cls) -> Self:
        """Half of the points of real colour images of odd size."""
        return cls(PointParams(acceleration=2, centre=3), (3, 7, 9))
