"""Poisson-disc points of the Fourier plane."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.corruption import CORRUPTIONS, Shape
from mrigen.operators.fourier_points import PointCorruption, PointParams
from mrigen.operators.noise import Noise


class PoissonParams(PointParams):
    """Poisson-disc points, denser towards the centre (``sigpy.mri.poisson``).

    Attributes:
        patterns: how many different patterns there are; sigpy takes seconds for one of 320 x 320.
        crop_corner: leave out the corners of k-space.
    """

    patterns: Annotated[int, Field(ge=1)] = 16
    crop_corner: bool = True


@CORRUPTIONS.register("fourier-poisson")
class FourierPoisson(PointCorruption):
    """One of a number of Poisson-disc patterns with about HW / R points.

    The patterns are few and their points keep their distance, so that M̃ tells which pattern M was:
    P(M = 1 | M̃) is zero at every point that this lacks (Ambient Diffusion, theorem 4.1).
    """

    Params = PoissonParams
    params: PoissonParams
    reason = (
        "the surviving Poisson-disc points reveal which pattern they belong to, and with it what was never "
        "measured; use fourier-points"
    )

    def __init__(self, params: PoissonParams, shape: Shape, noise: Noise | None = None) -> None:
        super().__init__(params, shape, noise)
        self._pattern(0)

    def masks(self, batch: int, generator: torch.Generator) -> Tensor:
        """Patterns, bool (batch, 1, H, W)."""
        which = torch.randint(self.params.patterns, (batch,), generator=generator).tolist()
        return torch.stack([self._pattern(number) for number in which])

    def _pattern(self, number: int) -> Tensor:
        side = self.params.centre
        return poisson(
            self.shape[1:], self.params.acceleration, side, number, crop_corner=self.params.crop_corner
        )

    @classmethod
    def example(cls) -> Self:
        """A third of the points of real images of odd size."""
        return cls(PoissonParams(acceleration=3, centre=3, patterns=4), (1, 17, 19))


@lru_cache(maxsize=1024)
def poisson(
    size: tuple[int, int], acceleration: float, centre: int, seed: int, *, crop_corner: bool
) -> Tensor:
    """A Poisson-disc pattern, bool (1, H, W).

    Raises:
        UsageError: no pattern of this size comes within 0.1 of the acceleration.
    """
    import sigpy.mri

    try:
        mask = sigpy.mri.poisson(
            size, acceleration, calib=(centre, centre), dtype=bool, crop_corner=crop_corner, seed=seed
        )
    except ValueError as error:
        raise UsageError(
            f"fourier-poisson: no pattern of {size[0]} x {size[1]} points has acceleration {acceleration:g} "
            f"with a centre of {centre} ({error}); change the acceleration or the centre, or "
            "use fourier-points"
        ) from error
    return torch.from_numpy(mask)[None]
