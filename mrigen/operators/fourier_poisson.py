"""Poisson-disc points of the Fourier plane."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.operators.corruption import CORRUPTIONS, Shape
from mrigen.operators.fourier_points import PointCorruption, PointParams
from mrigen.operators.masks.base import centred
from mrigen.operators.noise import Noise

BISECTIONS = 14


class PoissonParams(PointParams):
    """Poisson-disc points, denser towards the centre.

    Attributes:
        patterns: how many different patterns there are; one of 320 x 320 points takes seconds.
        crop_corner: leave out the corners of k-space.
    """

    patterns: Annotated[int, Field(ge=1)] = 16
    crop_corner: bool = True


@CORRUPTIONS.register("fourier-poisson")
class FourierPoisson(PointCorruption):
    """One of a number of Poisson-disc patterns with exactly floor(HW / R) points.

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
        corner = self.params.crop_corner
        return poisson(self.shape[1:], self.budget, self.params.centre, number, crop_corner=corner)

    @classmethod
    def example(cls) -> Self:
        """A third of the points of real images of odd size."""
        return cls(PoissonParams(acceleration=3, centre=3, patterns=4), (1, 17, 19))


@lru_cache(maxsize=1024)
def poisson(size: tuple[int, int], budget: int, centre: int, seed: int, *, crop_corner: bool) -> Tensor:
    """A Poisson-disc pattern of exactly ``budget`` points, bool (1, H, W).

    The radius grows linearly with the distance ρ from the centre, which is 1 at the edges' middles:
    r = 1 + s ρ. The slope s is found by bisection, as large as the budget allows.

    Raises:
        UsageError: the corners left out leave too few points.
    """
    height, width = size
    middle = centred(height, centre)[:, None] & centred(width, centre)
    rows, columns = ((np.arange(n) - n // 2) / (n / 2) for n in size)
    rho = np.hypot(rows[:, None], columns)
    free = ~middle.numpy() & ((rho < 1) | (not crop_corner))
    wanted = budget - int(middle.sum())
    if int(free.sum()) < wanted:
        raise UsageError(
            f"fourier-poisson: {budget} points do not fit into {height} x {width} without corners; raise the "
            "acceleration or set crop_corner: false"
        )
    order = torch.randperm(height * width, generator=seeds.generator(seed, "poisson")).numpy()
    low, high = 0.0, float(max(size))
    best = throw(np.ones(size), free, order)
    for _ in range(BISECTIONS):
        slope = (low + high) / 2
        points = throw(1 + slope * rho, free, order)
        if len(points) >= wanted:
            low, best = slope, points
        else:
            high = slope
    mask = middle.clone()
    mask.view(-1)[torch.tensor(best[:wanted], dtype=torch.long)] = True
    return mask[None]


def throw(radius: NDArray[Any], free: NDArray[np.bool_], order: NDArray[Any]) -> list[int]:
    """Visit points in an order and keep those to which no kept one is nearer than that one's radius.

    Args:
        radius: of every point, (H, W).
        free: points that may be kept, (H, W).
        order: positions in the flattened plane.

    Returns:
        Kept positions in the order of the visits; the first n of them keep their distances too.
    """
    width = radius.shape[1]
    reach = int(np.ceil(radius.max()))
    blocked = np.pad(~free, reach, constant_values=True)
    distance = np.hypot(*np.ogrid[-reach : reach + 1, -reach : reach + 1])
    kept = []
    for position in order.tolist():
        row, column = divmod(position, width)
        if not blocked[row + reach, column + reach]:
            kept.append(position)
            disc = distance < radius[row, column]
            blocked[row : row + 2 * reach + 1, column : column + 2 * reach + 1] |= disc
    return kept
