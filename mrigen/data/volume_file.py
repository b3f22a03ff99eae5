"""Volume files that have what their manifest says, before anything of them is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from mrigen import hdf5
from mrigen.data.mri_manifest import Volume
from mrigen.errors import UsageError
from mrigen.system import open_files

MAX_OPEN = 256


class OpenVolumes:
    """The volume files of a store, of which the most recently used ones are kept open.

    A process may open so many files only, and a store has any number of them.

    Args:
        folder: folder of the store.
        volumes: its volumes.
        limit: files that are open at a time; by default 256, or a quarter of what the process may open.
    """

    def __init__(self, folder: Path, volumes: Sequence[Volume], limit: int | None = None) -> None:
        self._folder, self._volumes = folder, volumes
        self._limit = limit or _affordable()
        self._open: dict[int, h5py.File] = {}
        self._checked: set[int] = set()

    def __getitem__(self, number: int) -> h5py.File:
        """A volume's file, open until others have been asked for.

        Raises:
            UsageError: damaged, or its datasets are linked from elsewhere, missing, of another shape or kind.
        """
        file = self._open.pop(number, None)
        if file is None:
            while len(self._open) >= self._limit:
                self._open.pop(next(iter(self._open))).close()
            volume = self._volumes[number]
            file = _open(self._folder / volume.file, None if number in self._checked else volume)
            self._checked.add(number)
        self._open[number] = file
        return file

    def close(self) -> None:
        """Close all files; they are opened again when they are asked for."""
        while self._open:
            self._open.popitem()[1].close()


def _affordable() -> int:
    most = open_files()
    return MAX_OPEN if most is None else max(1, min(MAX_OPEN, most // 4))


def _open(path: Path, volume: Volume | None) -> h5py.File:
    """Open a volume file, and see whether it is what the manifest says where ``volume`` is given."""
    try:
        file = hdf5.reader(path)
        try:
            if volume is not None:
                _check(file, volume)
        except BaseException:
            file.close()
            raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: no readable volume ({reason}); prepare the data again") from error
    return file


def _check(file: h5py.File, volume: Volume) -> None:
    slices, (coils, height, width) = len(volume.slices), volume.shape
    masks = {(slices, 1, width), (slices, height, width)}
    expected = {
        "samples": ("c", None),
        "mask": ("b", masks),
        "acquired": ("b", {(slices, width)}),
        "maps": ("c", {(slices, coils, height, width)}),
        "scale": ("f", {(slices,)}),
        "further": ("b", masks),
    }
    for name, (kind, shapes) in expected.items():
        if name == "further" and name not in file:
            continue
        dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise ValueError(f"{name} is not stored in this file")
        if dataset.dtype.kind != kind or (shapes is not None and dataset.shape not in shapes):
            raise ValueError(
                f"{name} is {dataset.dtype} of shape {dataset.shape}, not what the manifest says"
            )
    masks_there = np.broadcast_to(file["mask"][()], (slices, height, width))
    needed = int(masks_there.sum((1, 2)).max())
    shape = file["samples"].shape
    if len(shape) != 3 or shape[:2] != (slices, coils) or shape[2] < needed:
        raise ValueError(f"samples have shape {shape}, the masks need ({slices}, {coils}, {needed})")
