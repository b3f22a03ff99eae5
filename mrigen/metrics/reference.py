"""Clean images for evaluation; training code never imports this module."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mrigen import hdf5
from mrigen.data import image_manifest
from mrigen.data.image_manifest import ImageManifest, Shard
from mrigen.data.manifest import data_kind
from mrigen.data.mri_manifest import REFERENCE, MRIManifest
from mrigen.data.shards import Array, map_shard, rows
from mrigen.errors import UsageError


class References(Protocol):
    """Clean images by index."""

    folder: Path

    def __len__(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        ...

    @property
    def parts(self) -> set[str]:
        """Names of all parts of the data in the folder."""
        ...

    def images(self, indices: list[int]) -> Tensor:
        """Images (n, C, H, W) in the units of the measurement store."""
        ...


def open_reference(folder: str | Path, split: str | None = None) -> References:
    """The references in a folder, of the kind that its manifest says.

    Args:
        folder: folder with a ``manifest.json`` of kind ``reference``.
        split: part of the data, None for all of it.

    Raises:
        UsageError: no reference folder, a missing file, or an empty split.
    """
    kinds: dict[str, type[ReferenceStore | ImageReferences]] = {
        "mri": ReferenceStore,
        "images": ImageReferences,
    }
    return kinds.get(data_kind(Path(folder)), ReferenceStore)(folder, split)


class ImageReferences:
    """Clean natural images in [-1, 1], by index.

    Args:
        folder: folder with a ``manifest.json`` of kind ``reference``, from ``mrigen prep-images``.
        split: part of the data, None for all of it.

    Raises:
        UsageError: no such folder, a missing or damaged file, or an empty split.
    """

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = ImageManifest.load(self.folder)
        _require_references(self.folder, self.manifest.kind)
        shards = [s for s in self.manifest.shards if split is None or s.split == split]
        _require_some(self.folder, bool(shards), split, self.parts)
        self._images = [self._mapped(shard) for shard in shards]
        self._starts = np.cumsum([0, *(s.images for s in shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        return self.manifest.shape

    @property
    def parts(self) -> set[str]:
        """Names of all parts of the data in the folder."""
        return {shard.split for shard in self.manifest.shards}

    def images(self, indices: list[int]) -> Tensor:
        """Images float32 (n, C, H, W) in [-1, 1]."""
        images = np.empty((len(indices), *self.image_shape), np.float32)
        for row, index in enumerate(indices):
            number = int(np.searchsorted(self._starts, index, side="right")) - 1
            found = rows(self._images[number], [index - int(self._starts[number])])[0]
            images[row] = found / np.float32(127.5) - 1 if found.dtype == np.uint8 else found
        return torch.from_numpy(images)

    def _mapped(self, shard: Shard) -> Array:
        images = map_shard(self.folder / shard.file).get(image_manifest.REFERENCE)
        if images is None or images.shape != (shard.images, *self.manifest.shape):
            raise UsageError(f"{self.folder / shard.file}: lacks images; prepare the data again")
        return images


def _require_references(folder: Path, kind: str) -> None:
    if kind != "reference":
        raise UsageError(f"{folder}: holds measurements, not references; give the folder OUT-reference")


def _require_some(folder: Path, found: bool, split: str | None, splits: set[str]) -> None:
    if not found:
        have = ", ".join(sorted(splits)) or "none"
        raise UsageError(f"{folder}: nothing in split {split!r} (there are: {have})")


class ReferenceStore:
    """Coil-combined images Σ_c conj(S_c) Fᴴ k_c / scale of fully sampled k-space, by index.

    Maps S and scale are those of the measurement store that was prepared together with it, so that
    the images compare with generated and reconstructed ones without rescaling.

    Args:
        folder: folder with a ``manifest.json`` of kind ``reference``.
        split: part of the data, None for all of it.

    Raises:
        UsageError: no reference folder, a missing file, different sizes, or an empty split.
    """

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = MRIManifest.load(self.folder)
        _require_references(self.folder, self.manifest.kind)
        volumes = [v for v in self.manifest.volumes if split is None or v.split == split]
        _require_some(self.folder, bool(volumes), split, self.parts)
        for volume in volumes:
            if not (self.folder / volume.file).is_file():
                raise UsageError(f"{self.folder / volume.file}: missing although the manifest lists it")
        shapes = sorted({v.shape[1:] for v in volumes})
        if len(shapes) > 1:
            raise UsageError(f"{folder}: references of different sizes (H, W) {shapes}; prepare with --crop")
        self._size = shapes[0]
        self._where = [(v.file, position) for v in volumes for position in range(len(v.slices))]

    def __len__(self) -> int:
        return len(self._where)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (1, H, W)."""
        return (1, *self._size)

    @property
    def parts(self) -> set[str]:
        """Names of all parts of the data in the folder."""
        return {volume.split for volume in self.manifest.volumes}

    def images(self, indices: list[int]) -> Tensor:
        """Images complex64 (n, 1, H, W) in the units of the measurement store."""
        images = np.empty((len(indices), *self.image_shape), np.complex64)
        by_file: dict[str, list[tuple[int, int]]] = {}
        for row, index in enumerate(indices):
            file, position = self._where[index]
            by_file.setdefault(file, []).append((row, position))
        for name, wanted in by_file.items():
            with hdf5.reader(self.folder / name) as file:
                for row, position in wanted:
                    images[row, 0] = file[REFERENCE][position]
        return torch.from_numpy(images)
