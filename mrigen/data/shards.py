"""Shards of an image store: HDF5 files whose arrays are read straight from the mapped file.

==================  =========  =====================  =======================================================
dataset             dtype      shape                  content
==================  =========  =====================  =======================================================
``y``               float32    (n, ...)               measurements A x + σ ε (complex64 for Fourier operators)
``operator/NAME``   any        (n or 1, ...)          tensors of A that differ from image to image
``sigma``           float32    (n,)                   σ of the noise of each image, where it is known
``label``           float32    (n, classes)           optional: class labels, one-hot or as they came
``name``            bytes      (n,)                   the images' names in their source, UTF-8
``image``           uint8      (n, C, H, W)           clean images, in reference shards alone; float32 in
                                                      [-1, 1] where the source has more than 8 bits
``record``          string     ()                     JSON: how it was made, ``ShardRecord``
==================  =========  =====================  =======================================================

An array that is the same for all images of a shard is stored once. Arrays are contiguous and not
compressed: a process maps them, the system's page cache keeps what is used, and stores larger than
memory need nothing special. Equal arrays and records give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mrigen import hdf5
from mrigen.data.image_manifest import ShardRecord
from mrigen.data.manifest import DATASET, write_record
from mrigen.errors import UsageError

Array = NDArray[np.generic]
OPERATOR = "operator"


class ShardIndex:
    """Which shard holds an image, and where.

    Args:
        counts: number of images of each shard, in order.
    """

    def __init__(self, counts: Iterable[int]) -> None:
        self._starts = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def located(self, indices: list[int]) -> Iterator[tuple[int, NDArray[np.intp], list[int]]]:
        """Each shard that holds some of the images: its number, their places in ``indices``, their rows."""
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(numbers).tolist():
            at = np.flatnonzero(numbers == number)
            yield number, at, (np.asarray(indices)[at] - self._starts[number]).tolist()


def write_shard(path: Path, arrays: Mapping[str, Array], record: ShardRecord) -> None:
    """Write a shard atomically; arrays whose rows are all equal become one row."""
    with hdf5.writer(path) as file:
        for name, array in arrays.items():
            file[name] = array[:1] if len(array) > 1 and _constant(name, array) else array
        write_record(file, record)


def map_shard(path: Path) -> dict[str, Array]:
    """The arrays of a shard by dataset name, mapped read-only.

    Raises:
        UsageError: the file is missing, damaged or no shard.
    """
    try:
        with hdf5.reader(path) as file:
            datasets: dict[str, h5py.Dataset] = {}
            file.visititems(lambda name, item: _note(datasets, name, item))
            where = {name: (d.dtype, d.shape, _offset(path, d)) for name, d in datasets.items()}
        whole = np.memmap(path, np.uint8, "r")
        return {name: np.ndarray(shape, dtype, whole, at) for name, (dtype, shape, at) in where.items()}
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: no readable shard ({reason}); prepare the data again") from error


def rows(array: Array, positions: list[int]) -> Array:
    """Rows of a mapped array, which has one row for all images where they agree."""
    last = len(array) - 1
    return np.stack([array[min(position, last)] for position in positions])


def _constant(name: str, array: Array) -> bool:
    """What an operator shares may be stored once; measurements are counted by their rows."""
    return name.startswith(f"{OPERATOR}/") and bool((array[1:] == array[:1]).all())


def _note(datasets: dict[str, h5py.Dataset], name: str, item: h5py.Dataset | h5py.Group) -> None:
    if isinstance(item, h5py.Dataset) and name != DATASET:
        datasets[name] = item


def _offset(path: Path, dataset: h5py.Dataset) -> int:
    """Where a dataset's bytes are in the file."""
    offset = None if dataset.external or dataset.is_virtual else dataset.id.get_offset()
    if offset is None or not dataset.shape or offset + dataset.nbytes > path.stat().st_size:
        raise ValueError(f"{dataset.name} is not stored in one piece in this file")
    return int(offset)
