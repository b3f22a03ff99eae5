"""Spiral MRI."""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen.operators.arms import ArmCorruption, ArmParams
from mrigen.operators.corruption import CORRUPTIONS


class SpiralParams(ArmParams):
    """Archimedean interleaves.

    Attributes:
        turns: of one interleaf from the centre to the edge of k-space.
    """

    turns: Annotated[float, Field(gt=0)] = 4.0


@CORRUPTIONS.register("spiral")
class Spiral(ArmCorruption):
    """Archimedean spirals from the centre of k-space outwards, k(s) = s exp(2πi · turns · s)."""

    Params = SpiralParams
    params: SpiralParams
    period = 2 * math.pi

    def arm(self, samples: int) -> tuple[Tensor, Tensor]:
        """Radii s_i = i / (n − 1); the annulus around each."""
        s = torch.linspace(0, 1, samples, dtype=torch.float64)
        edges = torch.cat([s[:1], (s[1:] + s[:-1]) / 2, s[-1:]])
        return torch.polar(s, 2 * math.pi * self.params.turns * s), edges[1:] ** 2 - edges[:-1] ** 2

    @classmethod
    def example(cls) -> Self:
        """5 interleaves for images of odd size."""
        return cls(SpiralParams(arms=5, turns=1.5), (1, 9, 8))
