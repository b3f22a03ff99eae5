"""Figures of images, points in the plane and distributions, as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mrigen.files import atomic
from mrigen.metrics.rendering import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 12.0
SIDE = 2.6
MARGIN = 0.05
BINS = 40
POINT = (1, 1, 2)


def comparison(rows: Mapping[str, Tensor], window: float | None, path: Path, title: str = "") -> None:
    """A row of images per name, all in the same grey window; written atomically as PNG.

    Single images stand side by side.

    Args:
        rows: images (n, C, H, W) by name; every row shows as many as the shortest has.
        window: upper end of the grey window of complex images.
        path: PNG file.
        title: above the figure.
    """
    from matplotlib.figure import Figure

    count = min(len(images) for images in rows.values())
    single = count == 1
    height, width = next(iter(rows.values())).shape[-2:]
    across, down = (len(rows), 1) if single else (count + 1.2, len(rows))
    figure = Figure(figsize=(WIDTH, WIDTH / across * down * height / width + 0.5), layout="constrained")
    axes = figure.subplots(*((1, len(rows)) if single else (len(rows), count)), squeeze=False)
    for line, (name, images) in zip(axes.reshape(len(rows), count), rows.items(), strict=True):
        shown = pictures(images[:count], window).permute(0, 2, 3, 1).numpy()
        for axis, picture in zip(line, shown, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
        if single:
            line[0].set_title(name, fontsize=11)
        else:
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
    figure.suptitle(title, fontsize=12)
    save(figure, path)


def grid(images: Tensor, window: float | None, path: Path) -> None:
    """Up to 64 images in rows of eight, without gaps; written atomically as PNG."""
    from PIL import Image

    shown = pictures(images[:64], window)
    rows = [np.concatenate([*row.permute(0, 2, 3, 1).numpy()], axis=1) for row in shown.split(8)]
    width = rows[0].shape[1]
    page = np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0))) for r in rows])
    factor = max(1, 512 // width)
    with atomic(path) as temporary:
        Image.fromarray(page.repeat(factor, 0).repeat(factor, 1)).save(temporary, format="PNG")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically and without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


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
    reach = max(float(abs(cloud).max()) for cloud in list(points.values())[:2])
    figure = Figure(figsize=(SIDE * len(points), SIDE + 0.5), layout="constrained")
    for axes, (name, cloud) in zip(
        figure.subplots(1, len(points), squeeze=False)[0], points.items(), strict=True
    ):
        panel(axes, points[first], reach, s=0.5, color="0.75")
        if name != first:
            panel(axes, cloud, reach)
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


def histogram(sets: Mapping[str, Sequence[float]], path: Path, title: str, axis: str) -> None:
    """Fractions of each set per bin, over one range; written atomically as PNG.

    Args:
        sets: numbers by name.
        path: PNG file.
        title: above the figure.
        axis: what the numbers are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    everything = np.concatenate([np.asarray(values) for values in sets.values()])
    edges = np.linspace(everything.min(), max(everything.max(), everything.min() + 1e-6), BINS + 1)
    for name, values in sets.items():
        axes.hist(values, edges.tolist(), weights=[1 / len(values)] * len(values), alpha=0.6, label=name)
    axes.set_xlabel(axis)
    axes.set_ylabel("fraction")
    figure.legend(loc="outside right upper")
    figure.suptitle(title, fontsize=12)
    save(figure, path)


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
