"""Coil maps of the user's own, instead of those that ESPIRiT finds in the ACS lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.data.manifest import NAME
from mrigen.data.mri_store import MeasurementStore
from mrigen.data.stores import open_store
from mrigen.errors import UsageError
from mrigen.prep.readers.bart import read_cfl

DATASETS = ("maps", "sens_maps", "sensitivities")
Rows = Callable[[list[int]], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class CoilMaps:
    """Coil sensitivities of several slices, or of one that stands for all.

    Attributes:
        path: where they come from.
        shape: slices, coils, H and W.
        rows: complex (n, coils, H, W) of some slices.
    """

    path: Path
    shape: tuple[int, int, int, int]
    rows: Rows

    @classmethod
    def of_one(cls, path: Path, maps: NDArray[Any]) -> CoilMaps:
        """From an array (coils, H, W) that stands for all slices."""
        return cls(path, (1, *maps.shape), lambda _: maps[None])

    def require(self, coils: int, sizes: list[tuple[int, int]]) -> None:
        """Refuse maps of other coils or another size.

        Args:
            coils: coils of the scan.
            sizes: H and W that are right: those of the image, and of the k-space it is cropped from.

        Raises:
            UsageError: says what they are and what the scan needs.
        """
        _, own, height, width = self.shape
        if own == coils and (height, width) in sizes:
            return
        right = " or ".join(f"{coils}x{h}x{w}" for h, w in dict.fromkeys(sizes))
        raise UsageError(
            f"{self.path}: coil maps are {own}x{height}x{width} (coils, H, W), and the scan needs {right}; "
            "give maps of all its coils at its matrix"
        )

    def choose(self, slices: list[int], total: int) -> list[int]:
        """Which maps belong to slices of a scan of ``total`` slices.

        Raises:
            UsageError: there is neither one map, nor one for each slice of the scan or of the choice.
        """
        count = self.shape[0]
        if count == 1:
            return [0] * len(slices)
        if count == total:
            return slices
        if count == len(slices):
            return list(range(count))
        raise UsageError(
            f"{self.path}: has coil maps of {count} slices, and {len(slices)} of the scan's {total} are "
            "reconstructed; give maps of one slice, of these or of all"
        )

    def read(self, rows: list[int], size: tuple[int, int]) -> Tensor:
        """Maps of some slices, complex64 (n, coils, *size), with Σ_c |S_c|² = 1 wherever it is not 0.

        Larger maps are cropped about their centre, as images are. The unit sum is what ESPIRiT gives and what
        models were trained with.

        Raises:
            UsageError: they are not finite, or zero everywhere.
        """
        maps = torch.from_numpy(np.ascontiguousarray(self.rows(rows), np.complex64))
        for axis, extent in zip((-2, -1), size, strict=True):
            maps = maps.narrow(axis, maps.shape[axis] // 2 - extent // 2, extent)
        if not torch.view_as_real(maps).isfinite().all():
            raise UsageError(f"{self.path}: coil maps hold NaN or infinity; mend the file")
        norm = maps.abs().square().sum(1, keepdim=True).sqrt()
        if not norm.flatten(1).any(1).all():
            raise UsageError(f"{self.path}: coil maps of a slice are zero everywhere; give others")
        return maps / norm.where(norm > 0, 1)


def open_maps(path: Path, split: str | None = None) -> CoilMaps:
    """Maps of a numpy file or HDF5, (coils, H, W) or (slices, coils, H, W), or of a measurement store.

    Args:
        path: ``.npy``; BART's ``.cfl``; HDF5 with them in ``maps``, ``sens_maps`` or ``sensitivities``; a
        store's folder.
        split: part of the store.

    Raises:
        UsageError: there are no coil maps.
    """
    if not path.exists():
        raise UsageError(
            f"--maps {path}: no such file or folder; give coil maps (.npy, HDF5, a store) or espirit"
        )
    if path.is_dir():
        return _of_store(path, split)
    if path.suffix.lower() in {".h5", ".hdf5"}:
        return _of_hdf5(path)
    if path.suffix.lower() == ".npy":
        return _of_numpy(path)
    if path.suffix.lower() == ".cfl":
        return _of_bart(path)
    raise UsageError(f"--maps {path}: give coil maps as .npy, HDF5, BART's .cfl or a measurement store")


def _of_store(path: Path, split: str | None) -> CoilMaps:
    store = open_store(path, split) if (path / NAME).is_file() else None
    if not isinstance(store, MeasurementStore):
        raise UsageError(f"--maps {path}: is not a store of k-space; give one that mrigen prep-fastmri made")
    maps = store.maps_and_masks([0])[0]
    _, coils, height, width = maps.shape

    def rows(indices: list[int]) -> NDArray[Any]:
        maps: NDArray[Any] = store.maps_and_masks(indices)[0].numpy()
        return maps

    return CoilMaps(path, (len(store), coils, height, width), rows)


def _of_hdf5(path: Path) -> CoilMaps:
    try:
        with h5py.File(path, "r") as file:
            name = next((n for n in DATASETS if _stored(file, n)), None)
            if name is None:
                raise UsageError(f"{path}: has no dataset {', '.join(DATASETS)}; store coil maps as `maps`")
            shape, dtype = file[name].shape, file[name].dtype
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not a readable HDF5 file ({reason}); copy the file again") from error

    def rows(indices: list[int]) -> NDArray[Any]:
        try:
            with h5py.File(path, "r") as file:
                stored = file[name]
                maps = [stored[row] if stored.ndim == 4 else stored[()] for row in indices]
        except OSError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{path}: damaged, cannot be read ({reason}); copy the file again") from error
        return np.stack(maps)

    return CoilMaps(path, _four(path, shape, dtype), rows)


def _stored(file: h5py.File, name: str) -> bool:
    """Whether the file itself holds a dataset of this name, no link to others."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return False
    entry = file[name]
    return isinstance(entry, h5py.Dataset) and not entry.is_virtual and not entry.external


def _of_numpy(path: Path) -> CoilMaps:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not a readable numpy file ({reason}); save it with numpy.save") from error
    shape = _four(path, stored.shape, stored.dtype)
    return CoilMaps(path, shape, lambda indices: np.asarray(stored.reshape(shape)[indices]))


def _of_bart(path: Path) -> CoilMaps:
    """Maps (READ, PHS1, 1, COIL, 1, ..., SLICE), as ``bart ecalib`` writes them; of several sets none is
    taken.

    Raises:
        UsageError: not a pair of BART's files, or of other dimensions.
    """
    stored = read_cfl(path)
    read, lines, _, coils = stored.shape[:4]
    if stored.size != read * lines * coils * stored.shape[13]:
        sizes = " x ".join(map(str, stored.shape)).removesuffix(" x 1" * 2)
        raise UsageError(
            f"{path}: coil maps of dimensions {sizes}; give one set of two-dimensional slices "
            "(`bart ecalib -m 1`)"
        )
    maps = stored.reshape(read, lines, coils, -1, order="F").transpose(3, 2, 0, 1)
    return CoilMaps(
        path, _four(path, maps.shape, maps.dtype), lambda indices: np.ascontiguousarray(maps[indices])
    )


def _four(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int, int, int]:
    """Slices, coils, H and W.

    Raises:
        UsageError: they are not complex, or have other axes.
    """
    if dtype.kind != "c":
        raise UsageError(f"{path}: coil maps are {dtype}, not complex; save complex64")
    if len(shape) not in {3, 4} or 0 in shape:
        raise UsageError(
            f"{path}: coil maps have shape {shape}; they must be (coils, H, W) or (slices, coils, H, W)"
        )
    slices, coils, height, width = (1,) * (4 - len(shape)) + tuple(shape)
    return slices, coils, height, width
