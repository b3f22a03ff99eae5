"""Fully sampled images for evaluation; training code never imports this module."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from mrigen.data.mri_manifest import REFERENCE, MRIManifest
from mrigen.errors import UsageError


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
        if self.manifest.kind != "reference":
            raise UsageError(f"{folder}: holds measurements, not references; give the folder OUT-reference")
        volumes = [v for v in self.manifest.volumes if split is None or v.split == split]
        if not volumes:
            have = ", ".join(sorted({v.split for v in self.manifest.volumes})) or "none"
            raise UsageError(f"{folder}: no volume in split {split!r} (there are: {have})")
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

    def images(self, indices: list[int]) -> Tensor:
        """Images complex64 (n, 1, H, W) in the units of the measurement store."""
        images = np.empty((len(indices), *self.image_shape), np.complex64)
        by_file: dict[str, list[tuple[int, int]]] = {}
        for row, index in enumerate(indices):
            file, position = self._where[index]
            by_file.setdefault(file, []).append((row, position))
        for name, wanted in by_file.items():
            with h5py.File(self.folder / name, "r", locking=False) as file:
                for row, position in wanted:
                    images[row, 0] = file[REFERENCE][position]
        return torch.from_numpy(images)
