"""Generated images on disk: HDF5 with one image per seed, written as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.files import atomic


def write_images(path: Path, seeds: list[int], batches: Iterable[Tensor]) -> None:
    """Write batches of images (B, C, H, W) as they come, with their ``seeds``; holds one batch at a time."""
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        done = 0
        for batch in batches:
            rows = batch.cpu().numpy()
            if "images" not in file:
                shape = (len(seeds), *rows.shape[1:])
                file.create_dataset("images", shape, rows.dtype, chunks=(1, *rows.shape[1:]))
            file["images"][done : done + len(rows)] = rows
            done += len(rows)
        file["seeds"] = seeds


def read_images(path: Path, batch: int = 256) -> Iterator[Tensor]:
    """Batches of images (B, C, H, W) of a file that ``mrigen sample`` wrote; see ``count_images``."""
    count = count_images(path)
    with h5py.File(path, "r", locking=False) as file:
        for first in range(0, count, batch):
            yield torch.from_numpy(file["images"][first : min(first + batch, count)])


def count_images(path: Path) -> int:
    """Number of images in a file.

    Raises:
        UsageError: no such file, or one without images.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            images = file["images"]
            if images.ndim != 4 or not len(images):
                raise UsageError(f"{path}: needs images (n, C, H, W), not {images.shape}")
            return len(images)
    except (OSError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: no images here ({error}); give a file written by mrigen sample") from error
