"""How images of a shape are shown: as pictures, or as points where each is a point of the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mrigen.report.figures import comparison, grid
from mrigen.report.points import plane, scatter

POINT = (1, 1, 2)


@dataclass(frozen=True)
class View:
    """Figures of one kind.

    Attributes:
        compared: images of each set that a comparison shows.
        shown: images that a figure of one set shows.
        comparison: draws several sets by name; images, grey window, file, title.
        several: draws one set; images, grey window, file.
    """

    compared: int
    shown: int
    comparison: Callable[[Mapping[str, Tensor], float | None, Path, str], None]
    several: Callable[[Tensor, float | None, Path], None]


PICTURES = View(10, 64, comparison, grid)
POINTS = View(2000, 2000, scatter, plane)


def view_of(shape: tuple[int, ...]) -> View:
    """How images (C, H, W) are shown; those of shape (1, 1, 2) are points of the plane."""
    return POINTS if tuple(shape) == POINT else PICTURES
