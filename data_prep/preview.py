"""A picture of a store: people would rather look than read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mrigen.data.store import MeasurementStore
from mrigen.files import atomic

NAME = "preview.png"
SHOWN = 4


def draw(folder: Path) -> Path:
    """Write ``preview.png``: for a few slices |Aᴴ k|, the mask and the magnitude of the first map.

    Args:
        folder: a measurement store.

    Returns:
        The picture's path.
    """
    store = MeasurementStore(folder, split=None, cache_bytes=0)
    indices = _spread([len(volume.slices) for volume in store.manifest.volumes])
    batch = store.measurements(indices)
    images = batch.operator.adjoint(batch.y)[:, 0].abs().numpy()
    sensitivities, sampled, _ = store.bank(indices)
    maps = sensitivities[:, 0].abs().numpy()
    masks = np.broadcast_to(sampled[:, 0].numpy(), images.shape)
    titles = ("|Aᴴ k|", "measured k-space", "|map of coil 0|")
    figure = Figure(figsize=(6, 2 * len(indices)), layout="constrained")
    axes = figure.subplots(len(indices), 3, squeeze=False)
    for row, index, *pictures in zip(axes, indices, images, masks, maps, strict=True):
        for axis, title, picture in zip(row, titles, pictures, strict=True):
            top = np.quantile(picture, 0.995) if picture.dtype.kind == "f" else 1
            axis.imshow(picture, cmap="gray", vmin=0, vmax=max(float(top), 1e-12), interpolation="nearest")
            axis.set_title(f"{title}, slice {index}", fontsize=7)
            axis.set_axis_off()
    with atomic(folder / NAME) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return folder / NAME


def _spread(slices: list[int]) -> list[int]:
    """Indices of a few slices, each from another volume where there are enough, and at another height."""
    shown = min(SHOWN, sum(slices))
    found = set()
    for i in range(shown):
        volume = i * len(slices) // shown
        found.add(sum(slices[:volume]) + (i + 1) * slices[volume] // (shown + 1))
    return sorted(found)
