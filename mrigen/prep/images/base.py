"""Sets of images, wherever they lie: names, labels, and the bytes of each image."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mrigen.data.pixels import ImageError, Picture, decode
from mrigen.errors import UsageError
from mrigen.files import sha256

Label = int | tuple[float, ...]
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Item:
    """One image of a set.

    Attributes:
        name: unique in the set; randomness is keyed by it.
        part: the part of the data that the set itself puts it into, None where it has no parts.
        label: number of its class, or a vector; None where the set has no labels.
        place: where the set finds it.
    """

    name: str
    part: str | None = None
    label: Label | None = None
    place: str = ""


@dataclass(frozen=True, eq=False)
class ImageSet(ABC):
    """Images by position.

    Attributes:
        source: the file or folder.
        items: the images, sorted by name.
        ignored: number of other files in it.
        note: what a user should know about images of this kind, one line.
    """

    kind: ClassVar[str]
    note: ClassVar[str] = ""

    source: Path
    items: list[Item]
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def select(self, positions: Sequence[int]) -> Self:
        """The set of some of the images, cheap to send to another process."""
        return replace(self, items=[self.items[i] for i in positions])

    @abstractmethod
    def raw(self, position: int) -> bytes:
        """An image as it is stored.

        Raises:
            ImageError: it cannot be read.
        """

    def picture(self, position: int) -> Picture:
        """An image, decoded.

        Raises:
            ImageError: it cannot be read or decoded.
        """
        return decode(self.raw(position))

    def digest(self) -> str:
        """SHA-256 of the names, labels and contents of all images."""
        total = hashlib.sha256()
        for position, item in enumerate(self.items):
            try:
                content = hashlib.sha256(self.raw(position)).hexdigest()
            except ImageError as error:
                content = str(error)
            total.update(f"{item.name!r} {item.label!r} {content}\n".encode())
        return total.hexdigest()

    def checksum(self, digests: Sequence[str]) -> str:
        """SHA-256 that names the source: of its file, or of the digests of its parts."""
        if self.source.is_file():
            return sha256(self.source)
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class ArraySet(ImageSet):
    """Images that are kept in memory because their source holds them all in a few arrays.

    Attributes:
        pixels: (n, H, W) or (n, H, W, 3).
        peak: the value of white.
    """

    pixels: NDArray[np.generic] = field(default_factory=lambda: np.zeros((0, 1, 1), np.uint8))
    peak: float = 255.0

    def select(self, positions: Sequence[int]) -> Self:
        """The set of some of the images, with their pixels alone."""
        chosen = super().select(positions)
        return replace(chosen, pixels=self.pixels[np.asarray(positions, int)])

    def raw(self, position: int) -> bytes:
        """The pixels, row by row."""
        content: bytes = self.pixels[position].tobytes()
        return content

    def picture(self, position: int) -> Picture:
        """The pixels."""
        return Picture.of(self.pixels[position], self.peak)


def with_parts(items: list[Item]) -> list[Item]:
    """Items whose folders are called train, val and test know their part.

    What all names have in common at their beginning does not count.
    """
    folders = [PurePosixPath(item.name).parts[:-1] for item in items]
    depth = 0
    while folders and all(len(f) > depth for f in folders) and len({f[depth] for f in folders}) == 1:
        depth += 1
    parts = [PARTS.get(f[depth].lower()) if len(f) > depth else None for f in folders]
    if None in parts:
        return items
    return [replace(item, part=part) for item, part in zip(items, parts, strict=True)]


def with_labels(items: list[Item], labels: dict[str, Label], where: str) -> list[Item]:
    """Items with the labels of a ``dataset.json``.

    Raises:
        UsageError: an image has none, or they are of different kinds.
    """
    missing = [item.name for item in items if item.name not in labels]
    if missing:
        raise UsageError(f"{where}: no label of {missing[0]!r} ({len(missing)} images); leave out --labels")
    kinds = {len(v) if isinstance(v, tuple) else 0 for v in labels.values()}
    if len(kinds) > 1:
        raise UsageError(f"{where}: labels of different kinds or lengths; leave out --labels")
    return [replace(item, label=labels[item.name]) for item in items]
