"""Sets of images in one array of bytes, as EDM's and OpenAI's programs sample them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.prep.images.base import ArraySet, Item

NAMES = ("images", "arr_0", "samples", "data", "x")
COLOURS = {1, 3}


@dataclass(frozen=True, eq=False)
class BytesSet(ArraySet):
    """Images of an array (n, H, W, C), (n, C, H, W) or (n, H, W) of bytes, in memory."""

    kind: ClassVar[str] = "array"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> BytesSet:
        """Read the array.

        Raises:
            UsageError: there is none, it is not of bytes, or labels are wanted.
        """
        if labels:
            raise UsageError(f"{source}: arrays have no labels here; leave out --labels")
        pixels = _array(source)
        if pixels.dtype != np.uint8 or pixels.ndim not in {3, 4} or not pixels.size:
            raise UsageError(
                f"{source}: holds {pixels.dtype} {pixels.shape}; it must be an array of bytes (n, H, W, 3) "
                "called `images`, 0 for black and 255 for white"
            )
        if pixels.ndim == 4 and pixels.shape[1] in COLOURS and pixels.shape[-1] not in COLOURS:
            pixels = pixels.transpose(0, 2, 3, 1)
        if pixels.ndim == 4 and pixels.shape[-1] not in COLOURS:
            raise UsageError(f"{source}: has images of {pixels.shape[-1]} channels; give 1 or 3")
        if pixels.ndim == 4 and pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
        items = [Item(f"{i:08d}") for i in range(len(pixels))]
        return cls(source, items, 0, np.ascontiguousarray(pixels))


def _array(source: Path) -> NDArray[Any]:
    try:
        found = np.load(source, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                names = [n for n in NAMES if n in found.files] or found.files
                if len(names) > 1 and names[0] not in NAMES:
                    raise UsageError(f"{source}: holds {', '.join(names)}; call the array `images`")
                return np.asarray(found[names[0]])
    except (OSError, ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{source}: not a readable numpy file ({reason}); save it again") from error
    return np.asarray(found)
