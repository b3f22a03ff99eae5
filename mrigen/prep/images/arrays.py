"""Sets of images in one array, as EDM's and OpenAI's programs and ``mrigen sample`` write them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mrigen.data.images import ImageSet as Images
from mrigen.data.images import open_images
from mrigen.data.pixels import BYTE
from mrigen.errors import UsageError
from mrigen.prep.images.base import ArraySet, Item

SLACK = 0.01  # samples of a network overshoot a little


@dataclass(frozen=True, eq=False)
class ArrayFileSet(ArraySet):
    """Grey or coloured images of an array, in memory, with the range of values that evaluation sees in them.

    Colours are rounded to 8 bits; grey values that are no whole bytes stay as precise as float32.
    """

    kind: ClassVar[str] = "array"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> ArrayFileSet:
        """Read the array.

        Raises:
            UsageError: there is none, it is complex, it has other channels, or labels are wanted.
        """
        if labels:
            raise UsageError(f"{source}: arrays have no labels here; leave out --labels")
        images = open_images(source)
        channels = images.shape[0]
        if images.complex_valued or channels not in {1, 3}:
            what = "complex images" if images.complex_valued else f"images of {channels} channels"
            raise UsageError(f"{source}: has {what}; give grey or coloured ones, (n, H, W) or (n, H, W, 3)")
        pixels, whole = _bytes(images, source)
        items = [Item(f"{i:08d}") for i in range(len(images))]
        if channels == 3:
            if not whole:
                warnings.warn(f"{source}: colours are rounded to 8 bits", stacklevel=2)
            return cls(source, items, 0, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
        if whole:
            return cls(source, items, 0, pixels[:, 0])
        grey = [(part[:, 0].numpy() + 1) / 2 for part in images.read()]
        return cls(source, items, 0, np.concatenate(grey).astype(np.float32), 1.0)


def _bytes(images: Images, source: Path) -> tuple[NDArray[np.uint8], bool]:
    """Images (n, C, H, W) rounded to bytes, and whether that changed nothing.

    Raises:
        UsageError: some values are not finite.
    """
    pixels = np.empty((len(images), *images.shape), np.uint8)
    whole, first, outside = True, 0, 0
    for part in images.read():
        if not part.isfinite().all():
            raise UsageError(f"{source}: holds NaN or infinity; leave those images out")
        outside += int((part.abs() > 1 + SLACK).sum())
        values = (part.numpy().clip(-1, 1) + 1) * (BYTE / 2)
        rounded = values.round()
        whole = whole and bool(np.abs(values - rounded).max() < 1e-3)
        pixels[first : first + len(part)] = rounded
        first += len(part)
    if outside:
        share = outside / pixels.size
        warnings.warn(
            f"{source}: {share:.2%} of the values are outside of [-1, 1] and are clipped", stacklevel=3
        )
    return pixels, whole
