"""The samplers of Tweedie teachers: down to 0, or to the noise level of their data."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from mrigen.diffusion.samplers.base import SAMPLERS, SamplerParams
from mrigen.diffusion.samplers.edm import ChurnParams, Euler
from mrigen.errors import UsageError


class TweedieSamplerParams(ChurnParams):
    """Where to stop.

    Attributes:
        truncate: stop at σ (Teacher-Truncated), or go down to 0 (Teacher-Full).
        sigma: σ; None for the lowest level at which the teacher was trained, the data's (smallest) noise.
    """

    truncate: bool = True
    sigma: Annotated[float, Field(gt=0)] | None = None


@SAMPLERS.register("tweedie")
class TweedieSampler(Euler):
    """Euler steps; truncated, the denoiser's estimate is returned when the next level would be below σ.

    RSD algorithm 3. Returning the estimate is the Euler step to level 0, so that truncation is a grid
    without the levels below σ.
    """

    Params: ClassVar[type[SamplerParams]] = TweedieSamplerParams
    params: TweedieSamplerParams

    def levels(self, floor: float) -> list[float]:
        """The grid's levels from σ up, then 0.

        Raises:
            UsageError: the teacher was trained down to level 0, or no level of the grid is above σ.
        """
        grid = super().levels(floor)
        if not self.params.truncate:
            return grid
        lowest = floor if self.params.sigma is None else self.params.sigma
        if lowest <= 0:
            raise UsageError(
                "sampler tweedie: this teacher was trained down to level 0, there is no noise level of its "
                "data to stop at; set sampler.sigma, or use heun"
            )
        kept = [level for level in grid if level >= lowest]
        if not kept:
            raise UsageError(
                f"sampler tweedie: σ = {lowest:g} is above the highest level {grid[0]:g}; lower sampler.sigma"
            )
        return [*kept, 0.0]
