"""Masks of points, for two phase encodes: Poisson-disc and uniformly random."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mrigen import seeds
from mrigen.errors import UsageError
from mrigen.operators.masks.base import MASKS, MaskParams, PointDistribution, centred, random_subset

BISECTIONS = 14


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
class PoissonDisc(PointDistribution):
    """Exactly floor(n / R) of n points: a full centre, Poisson-disc points around it, and a few uniform ones.

    The radius of the discs grows with the distance from the centre (see
    ``mrigen.operators.fourier_masks``). Points of a pattern keep their distance, so that by
    themselves they would reveal where nothing can have been measured. A share of the points is
    therefore drawn uniformly from all that the pattern lacks: whatever M̃ shows, the points that the
    further corruption dropped may be of these and lie anywhere, P(M = 1 | M̃) > 0 at every point, and
    theorem 4.1 of Ambient Diffusion holds (Daras et al. 2023).
    """

    Params = PoissonDiscParams
    params: PoissonDiscParams

    @property
    def ambient_obstacle(self) -> str:  # type: ignore[override]
        """Why ambient training cannot use these masks; empty where a share of the points is uniform."""
        if self.params.uniform:
            return ""
        return "Poisson-disc points alone reveal where none can be measured; set uniform above 0"

    def check(self, acquired: Tensor, height: int = 1, *, further: bool = True) -> None:
        """See ``MaskDistribution.check``; also two axes, and a pattern that fits without corners."""
        super().check(acquired, height, further=further)
        if height < 2:
            raise UsageError("poisson-disc masks need two phase encodes; choose a mask of lines")
        if self.params.crop_corner and self.params.acceleration < 1.5:
            raise UsageError(
                f"poisson-disc masks without corners need an acceleration of at least 1.5, not "
                f"{self.params.acceleration:g}; set crop_corner to false or raise it"
            )

    def points(self, acquired: Tensor, rng: torch.Generator) -> Tensor:
        """Draw patterns and complete them to the budget; see ``PointDistribution.points``."""
        count, height, width = acquired.shape
        acs = self.acs(height, width) & acquired
        numbers = torch.randint(self.params.patterns, (count,), generator=rng).tolist()
        pattern = torch.stack([self._pattern(height, width, number) for number in numbers])
        disc = pattern & acquired & ~acs
        around = torch.tensor([self.budget(a) - int(c.sum()) for a, c in zip(acquired, acs, strict=True)])
        present = disc.flatten(1).sum(1)
        uniform = torch.maximum((around * self.params.uniform).round().long(), around - present)
        if self.params.uniform:
            uniform = uniform.clamp(min=1)
        kept = random_subset(disc.flatten(1), around - uniform, rng)
        free = (acquired & ~acs).flatten(1) & ~kept
        thrown = random_subset(free, uniform, rng)
        return acs | (kept | thrown).view_as(acquired)

    def _pattern(self, height: int, width: int, number: int) -> Tensor:
        side = self.params.centre(width)
        budget = int(height * width // self.params.acceleration)
        return poisson((height, width), budget, side, number, crop_corner=self.params.crop_corner)[0]

    @classmethod
    def example(cls) -> PoissonDisc:
        """R = 3 with a centre of 4 x 4."""
        return cls(PoissonDiscParams(acceleration=3, acs_lines=4, patterns=2))


@MASKS.register("random-points")
class RandomPoints(PointDistribution):
    """Exactly floor(n / R) of n points: a full centre, the others uniformly random.

    With b measured points outside the centre of which the further corruption drops r, all sets of r
    points among those that M̃ lacks are equally likely to have been dropped, so that each of these was
    measured with probability r / (n - b + r) > 0 for n points outside the centre: theorem 4.1 of Ambient
    Diffusion holds (Daras et al. 2023).
    """

    def points(self, acquired: Tensor, rng: torch.Generator) -> Tensor:
        """See ``PointDistribution.points``."""
        acs = self.acs(*acquired.shape[1:]) & acquired
        around = torch.tensor([self.budget(a) - int(c.sum()) for a, c in zip(acquired, acs, strict=True)])
        thrown = random_subset((acquired & ~acs).flatten(1), around, rng)
        return acs | thrown.view_as(acquired)

    @classmethod
    def example(cls) -> RandomPoints:
        """R = 3 with a centre of 4 x 4."""
        return cls(MaskParams(acceleration=3, acs_lines=4))


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
    count = budget - int(middle.sum())
    if int(free.sum()) < count:
        raise UsageError(
            f"fourier-poisson: {budget} points do not fit into {height} x {width} without corners; raise the "
            "acceleration or set crop_corner: false"
        )
    order = torch.randperm(height * width, generator=seeds.seeded_rng(seed, "poisson")).numpy()
    low, high = 0.0, float(max(size))
    best = throw(np.ones(size), free, order)
    for _ in range(BISECTIONS):
        slope = (low + high) / 2
        points = throw(1 + slope * rho, free, order)
        if len(points) >= count:
            low, best = slope, points
        else:
            high = slope
    mask = middle.clone()
    mask.view(-1)[torch.tensor(best[:count], dtype=torch.long)] = True
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
