"""Figures for people who would rather look than read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from torch import Tensor

from mrigen.files import atomic
from mrigen.metrics.pictures import pictures

WIDTH = 12.0


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


def save(figure: mpl.figure.Figure, path: Path) -> None:
    """Write a figure as PNG, atomically and without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
