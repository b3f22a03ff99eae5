"""Where a volume is sampled: the scanner's grid, and how a head lies in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

MONOMIALS = [(i, j, k) for i in range(4) for j in range(4) for k in range(4) if 1 <= i + j + k <= 3]
Double = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels of an acquisition, in mm relative to the middle of the head.

    Attributes:
        z: heights of the slices (S,).
        y: rows (H,), from anterior to posterior.
        x: columns (W,), from left to right.
        pixel: distance of rows and of columns.
        thickness: of the slices.
        spacing: of the slices.
    """

    z: Double
    y: Double
    x: Double
    pixel: float
    thickness: float
    spacing: float

    @property
    def half(self) -> float:
        """Half of the longer side of the field of view, the unit of polynomials."""
        return float(max(np.abs(self.y).max(), np.abs(self.x).max()))

    def polynomial(
        self, rng: torch.Generator, deviations: dict[int, float], constant: float
    ) -> NDArray[np.float64]:
        """A random polynomial of the third degree in the position, (S, H, W).

        Args:
            rng: source of the coefficients.
            deviations: standard deviation of the coefficients of each degree.
            constant: the coefficient of degree 0.
        """
        scaled = (axis / self.half for axis in (self.z, self.y, self.x))
        sz, sy, sx = np.meshgrid(*scaled, indexing="ij", sparse=True)
        values = np.full((len(self.z), len(self.y), len(self.x)), constant)
        weights = torch.randn(len(MONOMIALS), generator=rng, dtype=torch.float64).tolist()
        for (i, j, k), weight in zip(MONOMIALS, weights, strict=True):
            values += deviations[i + j + k] * weight * sz**i * sy**j * sx**k
        return values


def uniform(rng: torch.Generator, half_widths: list[float]) -> list[float]:
    """Uniform numbers in ± ``half_widths``."""
    draws = 2 * torch.rand(len(half_widths), generator=rng, dtype=torch.float64) - 1
    return (draws * torch.tensor(half_widths, dtype=torch.float64)).tolist()
