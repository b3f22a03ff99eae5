"""Poisson-disc points, for two phase encodes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.masks.base import MASKS, MaskParams, PointLaw, random_subset


class PoissonDiscParams(MaskParams):
    """Parameters of Poisson-disc masks.

    Attributes:
        patterns: number of different patterns; one of 320 x 320 points takes seconds to make.
        uniform: share of the points outside the centre that are thrown uniformly instead.
        crop_corner: leave out the corners of k-space in the patterns.
    """

    patterns: Annotated[int, Field(ge=1, le=4096)] = 16
    uniform: Annotated[float, Field(ge=0, lt=1)] = 0.1
    crop_corner: bool = True


@MASKS.register("poisson-disc")
class PoissonDisc(PointLaw):
    """Exactly floor(n / R) of n points: a full centre, Poisson-disc points around it, and a few uniform ones.

    The radius of the discs grows with the distance from the centre (see
    ``mrigen.operators.fourier_poisson``). Points of a pattern keep their distance, so that by
    themselves they would reveal where nothing can have been measured. A share of the points is
    therefore drawn uniformly from all that the pattern lacks: whatever M̃ shows, the points that the
    further corruption dropped may be of these and lie anywhere, P(M = 1 | M̃) > 0 at every point, and
    theorem 4.1 of Ambient Diffusion holds (Daras et al. 2023).
    """

    Params = PoissonDiscParams
    params: PoissonDiscParams

    @property
    def reason(self) -> str:  # type: ignore[override]
        """Why ambient training cannot use these masks; empty where a share of the points is uniform."""
        if self.params.uniform:
            return ""
        return "Poisson-disc points alone reveal where none can be measured; set uniform above 0"

    def check(self, acquired: Tensor, height: int = 1, *, further: bool = True) -> None:
        """See ``MaskLaw.check``; masks also need two axes, and a pattern that fits without corners."""
        super().check(acquired, height, further=further)
        if height < 2:
            raise UsageError("poisson-disc masks need two phase encodes; choose a mask of lines")
        if self.params.crop_corner and self.params.acceleration < 1.5:
            raise UsageError(
                f"poisson-disc masks without corners need an acceleration of at least 1.5, not "
                f"{self.params.acceleration:g}; set crop_corner to false or raise it"
            )

    def points(self, acquired: Tensor, generator: torch.Generator) -> Tensor:
        """Draw patterns and complete them to the budget; see ``PointLaw.points``."""
        count, height, width = acquired.shape
        acs = self.acs(height, width) & acquired
        numbers = torch.randint(self.params.patterns, (count,), generator=generator).tolist()
        pattern = torch.stack([self._pattern(height, width, number) for number in numbers])
        disc = pattern & acquired & ~acs
        around = torch.tensor([self.budget(a) - int(c.sum()) for a, c in zip(acquired, acs, strict=True)])
        present = disc.flatten(1).sum(1)
        uniform = torch.maximum((around * self.params.uniform).round().long(), around - present)
        if self.params.uniform:
            uniform = uniform.clamp(min=1)
        kept = random_subset(disc.flatten(1), around - uniform, generator)
        free = (acquired & ~acs).flatten(1) & ~kept
        thrown = random_subset(free, uniform, generator)
        return acs | (kept | thrown).view_as(acquired)

    def _pattern(self, height: int, width: int, number: int) -> Tensor:
        from mrigen.operators.fourier_poisson import poisson

        side = self.params.centre(width)
        budget = int(height * width // self.params.acceleration)
        return poisson((height, width), budget, side, number, crop_corner=self.params.crop_corner)[0]

    @classmethod
    def example(cls) -> PoissonDisc:
        """R = 3 with a centre of 4 x 4."""
        return cls(PoissonDiscParams(acceleration=3, acs_lines=4, patterns=2))
