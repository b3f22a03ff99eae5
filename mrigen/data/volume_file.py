"""A volume file that has what its manifest says, before anything of it is used."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from mrigen.data.mri_manifest import Volume
from mrigen.errors import UsageError


def open_volume(path: Path, volume: Volume) -> h5py.File:
    """Open a volume file for reading.

    Raises:
        UsageError: damaged, or its datasets are linked from elsewhere, missing, of another shape or kind.
    """
    try:
        file = h5py.File(path, "r", locking=False)
        try:
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
        found = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
            raise ValueError(f"{name} is not stored in this file")
        if found.dtype.kind != kind or (shapes is not None and found.shape not in shapes):
            raise ValueError(f"{name} is {found.dtype} of shape {found.shape}, not what the manifest says")
    masks_there = np.broadcast_to(file["mask"][()], (slices, height, width))
    needed = int(masks_there.sum((1, 2)).max())
    shape = file["samples"].shape
    if len(shape) != 3 or shape[:2] != (slices, coils) or shape[2] < needed:
        raise ValueError(f"samples have shape {shape}, the masks need ({slices}, {coils}, {needed})")
