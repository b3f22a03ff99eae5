"""Generated images on disk: HDF5 with one image per seed, written as they come; other kinds are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrigen import hdf5
from mrigen.data.picture_files import array_pool, open_folder, open_npz, open_zip
from mrigen.data.pool import BATCH, Pool
from mrigen.errors import UsageError

FOLDED = "images.h5"  # name of the images in a folder of scans


def write_images(path: Path, seeds: list[int], batches: Iterable[Tensor]) -> None:
    """Write batches of images (B, C, H, W) as they come, with their ``seeds``; holds one batch at a time."""
    with hdf5.writer(path) as file:
        done = 0
        for batch in batches:
            rows = batch.cpu().numpy()
            if "images" not in file:
                shape = (len(seeds), *rows.shape[1:])
                file.create_dataset("images", shape, rows.dtype)
            file["images"][done : done + len(rows)] = rows
            done += len(rows)
        file["seeds"] = seeds


def open_images(path: Path) -> Pool:
    """Images of a file or folder: HDF5 of ``mrigen sample`` (itself or in its folder), ``npz``, ``zip``, or
    a folder of pictures.

    Raises:
        UsageError: no such file, or one without images.
    """
    if path.is_dir():
        return _open_hdf5(path / FOLDED) if (path / FOLDED).is_file() else open_folder(path)
    readers = {".npz": open_npz, ".zip": open_zip}
    return readers.get(path.suffix.lower(), _open_hdf5)(path)


def read_images(path: Path, batch: int = BATCH) -> Iterator[Tensor]:
    """Batches of images (B, C, H, W) of a file or folder; see ``open_images``."""
    return open_images(path).read(batch)


def _open_hdf5(path: Path) -> Pool:
    try:
        with hdf5.reader(path) as file:
            shape, dtype = file["images"].shape, file["images"].dtype
    except (OSError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: no images here ({error}); give a file written by mrigen sample") from error

    def take(first: int, last: int) -> NDArray[np.generic]:
        with hdf5.reader(path) as file:
            found: NDArray[np.generic] = file["images"][first:last]
        return found

    return array_pool(path, shape, dtype, take)
