"""Figures of points in the plane: images of one row with two pixels, x beside y."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mrigen.report.figures import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 2.6
MARGIN = 0.05


def scatter(rows: Mapping[str, Tensor], window: float | None, path: Path, title: str = "") -> None:
    """A panel of points per name, over the points of the first name in grey; written atomically as PNG.

    All panels show the part of the plane that holds the points of the first two names.

    Args:
        rows: points (n, 1, 1, 2) by name, the truth first.
        window: unused, for points have no grey levels.
        path: PNG file.
        title: above the figure.
    """
    del window
    from matplotlib.figure import Figure

    points = {name: images.flatten(1).cpu().numpy() for name, images in rows.items()}
    first = next(iter(points))
    reach = max(float(abs(some).max()) for some in list(points.values())[:2])
    figure = Figure(figsize=(SIDE * len(points), SIDE + 0.5), layout="constrained")
    for axes, (name, some) in zip(
        figure.subplots(1, len(points), squeeze=False)[0], points.items(), strict=True
    ):
        panel(axes, points[first], reach, s=0.5, color="0.75")
        if name != first:
            panel(axes, some, reach)
        axes.set_title(name, fontsize=10)
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def plane(points: Tensor, window: float | None, path: Path) -> None:
    """Points (n, 1, 1, 2) in one panel; written atomically as PNG."""
    del window
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * SIDE, 2 * SIDE), layout="constrained")
    panel(figure.subplots(), points.flatten(1).cpu().numpy(), float(points.abs().max()))
    save(figure, path)


def panel(axes: Axes, points: Any, reach: float, **style: Any) -> None:
    """Points (n, 2) in a square from −reach to reach and a margin."""
    side = (-reach - MARGIN, reach + MARGIN)
    axes.scatter(*points.T, **{"s": 2, "color": "tab:blue", "alpha": 0.5, "linewidths": 0, **style})
    axes.set(xlim=side, ylim=side, aspect="equal", xticks=[], yticks=[])
