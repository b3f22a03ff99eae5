"""Clean images for evaluation; training code never imports this module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen import hdf5
from mrigen.data import image_manifest
from mrigen.data.image_manifest import ImageManifest, Shard
from mrigen.data.manifest import data_kind, in_split
from mrigen.data.mri_manifest import REFERENCE, MRIManifest
from mrigen.data.shards import Array, ShardIndex, map_shard, rows
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
        self.manifest.require("reference", self.folder)
        shards = in_split(self.folder, self.manifest.shards, split)
        self._images = [self._mapped(shard) for shard in shards]
        self._index = ShardIndex(shard.images for shard in shards)

    def __len__(self) -> int:
        return len(self._index)

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
        for number, at, inside in self._index.located(indices):
            array: NDArray[Any] = rows(self._images[number], inside)
            images[at] = array / np.float32(127.5) - 1 if array.dtype == np.uint8 else array
        return torch.from_numpy(images)

    def _mapped(self, shard: Shard) -> Array:
        images = map_shard(self.folder / shard.file).get(image_manifest.REFERENCE)
        if images is None or images.shape != (shard.images, *self.manifest.shape):
            raise UsageError(f"{self.folder / shard.file}: lacks images; prepare the data again")
        return images


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
        self.manifest.require("reference", self.folder)
        volumes = in_split(self.folder, self.manifest.volumes, split)
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
        for name, places in by_file.items():
            with hdf5.reader(self.folder / name) as file:
                for row, position in places:
                    images[row, 0] = file[REFERENCE][position]
        return torch.from_numpy(images)
