"""The IDX files of MNIST and of its relatives, Fashion-MNIST among them, plain or compressed."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from numpy.typing import NDArray

from mrigen.data.pixels import MAX_PIXELS
from mrigen.errors import UsageError
from mrigen.prep.images.base import ArraySet, Item

BYTES = 0x08
PARTS = {"train": "train", "t10k": "test"}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
MOST = 1 << 31


@dataclass(frozen=True, eq=False)
class IdxSet(ArraySet):
    """Grey images of a folder with ``train-images-idx3-ubyte`` and so on; parts train and test."""

    kind: ClassVar[str] = "idx"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> IdxSet:
        """Read the images, and their classes where they are wanted.

        Raises:
            UsageError: damaged, of different sizes, or no labels although they are wanted.
        """
        items, pixels = [], []
        for prefix, part in sorted(PARTS.items()):
            path = _file(source, f"{prefix}-{IMAGES}")
            if path is None:
                continue
            images = _read(path, 3)
            classes: list[int] | list[None] = [None] * len(images)
            if labels:
                label_file = _file(source, f"{prefix}-{LABELS}")
                classes = [] if label_file is None else _read(label_file, 1).tolist()
            if len(classes) != len(images):
                raise UsageError(f"{source}: no label for each image of {path.name}; leave out --labels")
            pixels.append(images)
            items += [Item(f"{prefix}/{i:05d}", part, label) for i, label in enumerate(classes)]
        if len({images.shape[1:] for images in pixels}) > 1:
            raise UsageError(f"{source}: files of images of different sizes; give one data set")
        return cls(source, items, 0, np.concatenate(pixels))


def looks_like(source: Path) -> bool:
    """Whether a path is a folder of IDX images."""
    return source.is_dir() and any(_file(source, f"{prefix}-{IMAGES}") for prefix in PARTS)


def _file(folder: Path, name: str) -> Path | None:
    """The file of a name, which some write with dots and some compress."""
    names = [f"{n}{end}" for n in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    return next((folder / n for n in names if (folder / n).is_file()), None)


def _read(path: Path, axes: int) -> NDArray[np.uint8]:
    """An array of bytes with so many axes.

    Raises:
        UsageError: the file is something else, or not as long as it declares.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _array(file, axes)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise UsageError(f"{path}: not a readable IDX file ({error}); fetch it again") from error


def _array(file: IO[bytes] | gzip.GzipFile, axes: int) -> NDArray[np.uint8]:
    magic, *shape = struct.unpack(f">{1 + axes}I", file.read(4 * (1 + axes)))
    count = 1
    for length in shape:
        count *= length
    if magic != (BYTES << 8 | axes) or not 0 < count < MOST or count // shape[0] > MAX_PIXELS:
        raise ValueError("holds no bytes of such a shape")
    content = file.read(count + 1)
    if len(content) != count:
        raise ValueError("is not as long as it declares")
    return np.frombuffer(content, np.uint8).reshape(shape)
