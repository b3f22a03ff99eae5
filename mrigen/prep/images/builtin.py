"""Sets of images that need no file: handwritten digits, points of a spiral, shapes, black holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.prep.images.base import ArraySet, Item

DIGITS_PEAK = 16.0
SHAPES, SIDE = 256, 64
HOLES, HOLE_SIDE = 2000, 16
POINTS, INNER, OUTER, TURNS = 12_000, 0.15, 0.9, 1.5


@dataclass(frozen=True, eq=False)
class BuiltInSet(ArraySet):
    """Images whose checksum is that of their pixels, for there is no file."""

    def checksum(self, digests: Sequence[str]) -> str:
        """SHA-256 of names, labels and pixels."""
        del digests
        return self.digest()


@dataclass(frozen=True, eq=False)
class DigitsSet(BuiltInSet):
    """1,797 handwritten digits of 8 x 8 pixels and 17 grey levels.

    The test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998,
    CC BY 4.0), which scikit-learn ships.
    """

    kind: ClassVar[str] = "digits"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> DigitsSet:
        """The set; ``source`` is only its name."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        classes = digits.target.tolist()
        items = [Item(f"{i:04d}", None, label if labels else None) for i, label in enumerate(classes)]
        return cls(source, items, 0, digits.images.astype(np.float32), DIGITS_PEAK)


@dataclass(frozen=True, eq=False)
class SpiralSet(BuiltInSet):
    """12,000 points of a spiral in the plane, each a grey image of one row, x beside y.

    r² is evenly spaced between 0.15² and 0.9², so that all pieces of the curve have about as many points,
    and the angle π/2 + 3π (r − 0.15)/0.75 makes one turn and a half. Crops take pixels away; the whole
    point is ``crop: none``.
    """

    kind: ClassVar[str] = "spiral"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> SpiralSet:
        """The set, from the inside out, without classes.

        Raises:
            UsageError: labels are wanted.
        """
        if labels:
            raise UsageError(f"{source}: points have no labels; leave out --labels")
        radius = np.sqrt(np.linspace(INNER**2, OUTER**2, POINTS))
        angle = np.pi / 2 + 2 * np.pi * TURNS * (radius - INNER) / (OUTER - INNER)
        points = radius * np.stack([np.cos(angle), np.sin(angle)])
        items = [Item(f"{i:05d}", None) for i in range(POINTS)]
        return cls(source, items, 0, ((points.T[:, None] + 1) / 2).astype(np.float32), 1.0)


@dataclass(frozen=True, eq=False)
class ShapesSet(BuiltInSet):
    """Drawings of coloured ellipses before smooth backgrounds, as stand-ins for photographs in trials."""

    kind: ClassVar[str] = "shapes"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> ShapesSet:
        """Always the same 256 drawings of 64 x 64 pixels; their class is the number of ellipses less one."""
        random = np.random.default_rng(0)
        counts = random.integers(1, 4, SHAPES)
        pixels = np.stack([_drawing(random, int(count)) for count in counts])
        point_labels = [int(count) - 1 if labels else None for count in counts]
        return cls(source, [Item(f"{i:04d}", None, point_labels[i]) for i in range(SHAPES)], 0, pixels)


@dataclass(frozen=True, eq=False)
class BlackHolesSet(BuiltInSet):
    """2,000 rings and crescents of 16 x 16 pixels, as the shadows of black holes are.

    Brightness at distance r and angle θ from a centre within 0.1 of the middle of [−1, 1]² is

        exp(−(r − r₀)² / 2w²) (1 + a cos(θ − θ₀)) / (1 + a),

    with radius r₀ ~ U(0.3, 0.6), width w ~ U(0.08, 0.16), asymmetry a ~ U(0, 1) and θ₀ ~ U(0, 2π), seed 0.
    """

    kind: ClassVar[str] = "black-holes"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> BlackHolesSet:
        """The set, without classes.

        Raises:
            UsageError: labels are wanted.
        """
        if labels:
            raise UsageError(f"{source}: black holes have no labels; leave out --labels")
        low, high = [-0.1, -0.1, 0.3, 0.08, 0.0, 0.0], [0.1, 0.1, 0.6, 0.16, 1.0, 2 * np.pi]
        drawn = np.random.default_rng(0).uniform(low, high, (HOLES, 6))
        cy, cx, radius, width, asymmetry, brightest = drawn.T[..., None, None]
        grid = (np.arange(HOLE_SIDE) + 0.5) * 2 / HOLE_SIDE - 1
        y, x = grid[:, None] - cy, grid[None, :] - cx
        ring = np.exp(-0.5 * ((np.hypot(y, x) - radius) / width) ** 2)
        side = (1 + asymmetry * np.cos(np.arctan2(y, x) - brightest)) / (1 + asymmetry)
        items = [Item(f"{i:04d}", None) for i in range(HOLES)]
        return cls(source, items, 0, (ring * side).astype(np.float32), 1.0)


BUILT_IN: dict[str, type[DigitsSet | SpiralSet | ShapesSet | BlackHolesSet]] = {
    "black-holes": BlackHolesSet,
    "digits": DigitsSet,
    "spiral": SpiralSet,
    "shapes": ShapesSet,
}


def _drawing(random: np.random.Generator, count: int) -> NDArray[np.uint8]:
    grid = np.linspace(-1, 1, SIDE)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    ramp = (y * random.uniform(-1, 1) + x * random.uniform(-1, 1))[..., None]
    page = random.uniform(60, 200, 3) + 40 * ramp
    for _ in range(count):
        (cy, cx), (ry, rx), angle = (
            random.uniform(-0.5, 0.5, 2),
            random.uniform(0.15, 0.5, 2),
            random.uniform(0, 3),
        )
        u = (y - cy) * np.cos(angle) + (x - cx) * np.sin(angle)
        v = (x - cx) * np.cos(angle) - (y - cy) * np.sin(angle)
        page[(u / ry) ** 2 + (v / rx) ** 2 < 1] = random.uniform(0, 255, 3)
    drawn: NDArray[np.uint8] = page.clip(0, 255).astype(np.uint8)
    return drawn
