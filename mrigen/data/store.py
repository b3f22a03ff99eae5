"""The measurement store: one HDF5 file per volume, beside a manifest.

A volume file holds, per slice, what was measured and nothing else of the image:

==============  ==========  ==============================  =============================================
dataset         dtype       shape                           content
==============  ==========  ==============================  =============================================
``samples``     complex64   (slices, coils, points)         k-space at the mask's points, row by row of
                                                            (H, W), divided by ``scale``, zero-padded
``mask``        bool        (slices, 1 or H, W)             measured lines or points, DC in the centre
``acquired``    bool        (slices, W)                     lines that the scanner can measure
``maps``        complex64   (slices, coils, H, W)           coil sensitivities
``scale``       float32     (slices,)                       divisor of the k-space
``further``     bool        (slices, 1 or H, W)             optional: further mask fixed with the data
==============  ==========  ==============================  =============================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.data.manifest import Manifest
from mrigen.errors import UsageError
from mrigen.files import atomic
from mrigen.operators.base import Measurements
from mrigen.operators.corruption import MRICorruption
from mrigen.operators.masks import MASKS
from mrigen.operators.mri import MultiCoilMRI

Array = NDArray[np.generic]


@dataclass(frozen=True)
class VolumeArrays:
    """The arrays of one volume, as the module's table says."""

    samples: Array
    mask: Array
    acquired: Array
    maps: Array
    scale: Array
    further: Array | None = None


def pack(kspace: Array, mask: Array) -> Array:
    """k-space (slices, coils, H, W) at the points of masks (slices, 1 or H, W): (slices, coils, points)."""
    full = np.broadcast_to(mask, (len(mask), *kspace.shape[-2:]))
    points = int(full.sum((1, 2)).max())
    samples = np.zeros((*kspace.shape[:2], points), np.complex64)
    for row, (k, m) in enumerate(zip(kspace, full, strict=True)):
        samples[row, :, : int(m.sum())] = k[:, m]
    return samples


def unpack(samples: Tensor, mask: Tensor, height: int) -> Tensor:
    """Inverse of ``pack``: (B, coils, points) and (B, 1, 1 or H, W) to k-space (B, coils, H, W)."""
    batch, coils, points = samples.shape
    full = mask.expand(-1, 1, height, -1).reshape(batch, 1, -1)
    position = (full.cumsum(-1) - 1).clamp(min=0).expand(-1, coils, -1)
    dense = samples.gather(-1, position.clamp(max=points - 1)) * full
    return dense.view(batch, coils, height, -1)


def write_volume(path: Path, arrays: VolumeArrays) -> None:
    """Write a volume file atomically; equal arrays give equal bytes."""
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        for name in VolumeArrays.__dataclass_fields__:
            array = getattr(arrays, name)
            if array is not None:
                file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]))


class MeasurementStore:
    """Slices of one split of a prepared store, by index.

    Small stores are kept in memory, larger ones are read slice by slice.

    Args:
        folder: folder with ``manifest.json``.
        split: part of the data; ``"train"`` by default, None for all of it.
        cache_bytes: keep the store in memory if its arrays need no more than this.

    Raises:
        UsageError: no store, a reference folder (training must not see clean images), a missing
            volume file, or an empty split.
    """

    def __init__(self, folder: str | Path, split: str | None = "train", cache_bytes: int = 4 << 30) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        if self.manifest.kind != "measurements":
            raise UsageError(f"{folder}: holds reference images for evaluation; give the measurement store")
        volumes = [v for v in self.manifest.volumes if split is None or v.split == split]
        if not volumes:
            have = ", ".join(sorted({v.split for v in self.manifest.volumes})) or "none"
            raise UsageError(f"{folder}: no volume in split {split!r} (there are: {have})")
        self._files = [self.folder / v.file for v in volumes]
        for path in self._files:
            if not path.is_file():
                raise UsageError(f"{path}: missing although the manifest lists it; prepare the data again")
        self._where = [(f, s) for f, v in enumerate(volumes) for s in range(len(v.slices))]
        shapes = sorted({v.shape for v in volumes})
        if len(shapes) > 1:
            raise UsageError(f"{folder}: volumes of different shapes (coils, H, W) {shapes}; prepare with --crop")
        self.shape = shapes[0]
        self._open: dict[int, h5py.File] = {}
        bytes_needed = sum(path.stat().st_size for path in self._files)
        self._cache = self._read(range(len(self))) if bytes_needed <= cache_bytes else None

    def __len__(self) -> int:
        return len(self._where)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (1, H, W)."""
        return (1, *self.shape[1:])

    def measurements(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """A batch of measured k-space with its operators.

        Args:
            indices: slices of this split.
            fixed_further: take the further masks that were stored with the data.

        Raises:
            UsageError: ``fixed_further`` although the store has none.
        """
        arrays = self._take(indices)
        maps, mask = torch.from_numpy(arrays.maps), torch.from_numpy(arrays.mask)[:, None]
        y = unpack(torch.from_numpy(arrays.samples), mask, self.shape[1])
        operator = MultiCoilMRI(maps, mask)
        further = None
        if fixed_further:
            if arrays.further is None:
                raise UsageError(f"{self.folder}: has no fixed further masks; prepare with --fixed-further")
            further = operator.with_mask(torch.from_numpy(arrays.further)[:, None])
        return Measurements(y, operator, torch.zeros(len(indices)), further=further)

    def bank(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (n, coils, H, W), masks (n, 1, 1 or H, W) and acquired lines (n, W) of some slices."""
        arrays = self._take(indices)
        return (
            torch.from_numpy(arrays.maps),
            torch.from_numpy(arrays.mask)[:, None],
            torch.from_numpy(arrays.acquired),
        )

    def corruption(self, *, fresh: bool | None = None) -> MRICorruption:
        """The corruption of this data: its maps with masks drawn from its law.

        Args:
            fresh: draw masks anew (the default where the data were undersampled retrospectively),
                or take maps and masks together from the store.
        """
        if self.manifest.mask is None:
            raise UsageError(f"{self.folder}: the manifest has no mask law; prepare the data again")
        law = MASKS.build(self.manifest.mask)
        return MRICorruption(self, law, fresh=self.manifest.fresh_masks if fresh is None else fresh)

    def _take(self, indices: list[int]) -> VolumeArrays:
        if self._cache is None:
            return self._read(indices)
        return VolumeArrays(
            **{n: a if (a := getattr(self._cache, n)) is None else a[indices] for n in VolumeArrays.__dataclass_fields__}
        )

    def _read(self, indices: list[int] | range) -> VolumeArrays:
        rows: dict[str, list[Array]] = {name: [] for name in VolumeArrays.__dataclass_fields__}
        for index in indices:
            number, position = self._where[index]
            if number not in self._open:
                self._open[number] = h5py.File(self._files[number], "r", locking=False)
            for name, found in rows.items():
                if name in self._open[number]:
                    found.append(self._open[number][name][position])
        points = max(row.shape[-1] for row in rows["samples"])
        rows["samples"] = [np.pad(r, ((0, 0), (0, points - r.shape[-1]))) for r in rows["samples"]]
        return VolumeArrays(**{name: np.stack(found) if found else None for name, found in rows.items()})  # type: ignore[arg-type]
