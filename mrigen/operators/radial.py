"""Radial MRI."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from mrigen.operators.arms import ArmCorruption, ArmParams
from mrigen.operators.corruption import CORRUPTIONS


@CORRUPTIONS.register("radial")
class Radial(ArmCorruption):
    """Straight spokes through the centre of k-space, from edge to edge."""

    Params = ArmParams
    period = math.pi

    def arm(self, samples: int) -> tuple[Tensor, Tensor]:
        """Radii t_i = (2 i − n) / n rounded down to hit 0; half of an annulus, or the centre's disc."""
        t = 2 * (torch.arange(samples, dtype=torch.float64) - samples // 2) / samples
        step = 2 / samples
        share = torch.where(t == 0, step**2 / 4, t.abs() * step)
        return torch.complex(t, torch.zeros_like(t)), share

    @classmethod
    def example(cls) -> Self:
        """5 spokes for images of odd size."""
        return cls(ArmParams(arms=5), (1, 9, 8))
