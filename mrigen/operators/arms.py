"""Trajectories of one arm at many angles: what radial and spiral sampling share."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import Operator
from mrigen.operators.corruption import NAIVE, ImageCorruption, Shape
from mrigen.operators.noise import Noise
from mrigen.operators.non_cartesian import NonCartesianMRI
from mrigen.registry import Params

GOLDEN = (math.sqrt(5) - 1) / 2


class ArmParams(Params):
    """Arms of a trajectory.

    Attributes:
        arms: spokes or interleaves of an image.
        samples: of one arm; by default twice the image's longer side.
        angles: ``random``, each independent; ``golden`` or ``equispaced`` from a random first one.
        further_drop: arms that the further corruption drops; 0 for the naive masked loss, a baseline.
        image: whether the images are ``real`` or ``complex``.
    """

    arms: Annotated[int, Field(ge=1)] = 32
    samples: Annotated[int, Field(ge=2)] | None = None
    angles: Literal["random", "golden", "equispaced"] = "random"
    further_drop: Annotated[int, Field(ge=0)] = 1
    image: Literal["real", "complex"] = "real"


class ArmCorruption(ImageCorruption):
    """Rotated copies of one arm in images (1, H, W), without coil maps.

    The further corruption drops r random arms. With random angles the others do not tell where
    these were, and

        E[AᴴA | Ã] = ÃᴴÃ + r T,  T = E_θ[A_θᴴ A_θ] of one arm at a random angle.

    T has full rank: a sample of the arm at radius k > 0 moves on an ellipse of k-space, on which the
    plane waves exp(−2πi k·n) of the pixels n are linearly independent. The corners of k-space, which
    the arms do not reach, have small eigenvalues. Golden-angle and equispaced arms reveal the missing
    ones (Ambient Diffusion, theorem 4.1).

    Attributes:
        period: angle after which arms repeat, in radians.
    """

    params: ArmParams
    period: ClassVar[float]

    def __init__(self, params: ArmParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        if shape[0] != 1:
            raise UsageError(f"non-Cartesian MRI needs images of one channel, not {shape[0]}")
        if params.further_drop > params.arms:
            raise UsageError(f"cannot drop {params.further_drop} of {params.arms} arms; lower further_drop")
        if params.angles != "random":
            self.reason = f"the surviving {params.angles} arms reveal the missing ones; use angles: random"
        self.baseline = "" if params.further_drop else NAIVE
        self._path, self._area = self.arm(params.samples or 2 * max(shape[1:]))

    @abstractmethod
    def arm(self, samples: int) -> tuple[Tensor, Tensor]:
        """One arm in the unit disc.

        Returns:
            Complex positions (samples,), real part along the columns, and the share (samples,) of the
            disc's area that each sample of a full set of arms covers, times the number of arms.
        """

    def draw(self, batch: int, generator: torch.Generator) -> NonCartesianMRI:
        """Arms at the angles that the parameters say, one set per sample."""
        count, (_, height, width) = self.params.arms, self.shape
        if self.params.angles == "random":
            turns = torch.rand(batch, count, generator=generator)
        else:
            step = GOLDEN if self.params.angles == "golden" else 1 / count
            turns = torch.rand(batch, 1, generator=generator) + step * torch.arange(count)
        angles = self.period * turns.double()
        path = torch.polar(torch.ones_like(angles), angles)[..., None] * self._path
        trajectory = torch.stack([path.imag * (height / 2), path.real * (width / 2)], -1)
        disc = math.pi * height * width / 4
        area = (self._area * disc / count).expand(1, count, -1)
        kept = torch.ones(batch, count, dtype=torch.bool)
        dtype = torch.complex64 if self.params.image == "complex" else torch.float32
        return NonCartesianMRI(trajectory.float(), area.float(), kept, self.zeros(batch, dtype))

    def further(self, operator: Operator, generator: torch.Generator) -> NonCartesianMRI:
        """Drop random arms."""
        if not isinstance(operator, NonCartesianMRI):
            raise TypeError(f"{type(self).__name__} cannot corrupt a {type(operator).__name__} further")
        score = torch.rand(operator.kept.shape, generator=generator).to(operator.kept.device)
        rank = score.masked_fill(~operator.kept, 2.0).argsort(1).argsort(1)
        return replace(operator, kept=operator.kept & (rank >= self.params.further_drop))
