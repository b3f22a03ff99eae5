"""Image sets on disk, batch by batch: HDF5 of ``mrigen sample``, picture folders, archives, arrays."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen import hdf5
from mrigen.data.archives import Files, is_archive, open_files
from mrigen.data.pixels import SUFFIXES, ImageError, decode, is_image, tensor
from mrigen.errors import UsageError

Shape = tuple[int, int, int]
BATCH = 256
FOLDED = "images.h5"  # name of the images in a folder of scans
KEYS = ("images", "arr_0", "samples", "data", "x")
ARRAYS = (".npz", ".npy", ".safetensors")
COLOURS = {1, 3}
LOOKED_AT = 256  # images of which the range of values is guessed
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # the last: encrypted, unknown compression
REMEDY = "give what mrigen sample wrote, pictures, or what mrigen prep-images made of DICOM and NIfTI"
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSet:
    """Images by batches.

    Attributes:
        name: where they come from, for messages.
        count: their number.
        shape: (C, H, W).
        complex_valued: complex MR images; otherwise natural images in [-1, 1].
        take: images (n, C, H, W) of the positions from ``first`` up to ``last``.
    """

    name: str
    count: int
    shape: Shape
    complex_valued: bool
    take: Callable[[int, int], Tensor]

    def __len__(self) -> int:
        return self.count

    def read(self, batch: int = BATCH) -> Iterator[Tensor]:
        """Batches (B, C, H, W) from the first image to the last."""
        for first in range(0, self.count, batch):
            yield self.take(first, min(first + batch, self.count))

    def first(self, count: int) -> ImageSet:
        """The first images of these."""
        return ImageSet(self.name, min(count, self.count), self.shape, self.complex_valued, self.take)


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


def open_images(path: Path) -> ImageSet:
    """Images of a file or folder: HDF5 of ``mrigen sample`` (itself or in its folder), arrays in ``npz``,
    ``npy`` or ``safetensors``, pictures in a zip or tar archive or a folder.

    Raises:
        UsageError: no such file, or one without images.
    """
    if path.is_dir():
        return _open_hdf5(path / FOLDED) if (path / FOLDED).is_file() else open_pictures(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; give what mrigen sample wrote, or pictures")
    if path.suffix.lower() in ARRAYS:
        return open_arrays(path)
    if is_archive(path):
        return open_pictures(path)
    return _open_hdf5(path)


def read_images(path: Path, batch: int = BATCH) -> Iterator[Tensor]:
    """Batches of images (B, C, H, W) of a file or folder; see ``open_images``."""
    return open_images(path).read(batch)


def _open_hdf5(path: Path) -> ImageSet:
    try:
        with hdf5.reader(path) as file:
            shape, dtype = file["images"].shape, file["images"].dtype
    except (OSError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: no images here ({reason:.60}); {REMEDY}") from error

    def take(first: int, last: int) -> NDArray[np.generic]:
        with hdf5.reader(path) as file:
            images: NDArray[np.generic] = file["images"][first:last]
        return images

    return image_set_of(path, shape, dtype, take)


def open_pictures(path: Path) -> ImageSet:
    """Pictures of a folder or archive and the folders in it, in the order of their names.

    Raises:
        UsageError: no archive, there are none in it, or the first cannot be read.
    """
    files = open_files(path, is_image)
    if not files.places:
        raise UsageError(f"{path}: no pictures here ({', '.join(sorted(SUFFIXES))}); {REMEDY}")
    names = list(files.places)
    shape = _decoded(files, names[0]).shape

    def take(first: int, last: int) -> Tensor:
        images = [_decoded(files, name, shape[0]) for name in names[first:last]]
        for name, picture in zip(names[first:last], images, strict=True):
            if picture.shape != shape:
                raise UsageError(
                    f"{path}/{name}: is {tuple(picture.shape)} (C, H, W), the first image is {tuple(shape)}"
                )
        return torch.stack(images)

    return ImageSet(str(path), len(names), (shape[0], shape[1], shape[2]), complex_valued=False, take=take)


def _decoded(files: Files, name: str, channels: int = 1) -> Tensor:
    """A picture (C, H, W) in [-1, 1] as a preparation decodes it, with at least so many channels."""
    try:
        picture = decode(files.read(name))
    except ImageError as error:
        raise UsageError(f"{files.path}/{name}: {error}") from error
    return tensor(picture, max(channels, len(picture.image.getbands())))


def open_arrays(path: Path) -> ImageSet:
    """Images of an array, under a usual name or the only one of its file: (n, C, H, W) or (n, H, W, C).

    Raises:
        UsageError: it holds no such array.
    """
    try:
        array = _array(path)
    except (OSError, ValueError, LookupError, MemoryError, *DAMAGE) as error:
        raise UsageError(f"{path}: needs an array {' or '.join(KEYS)} of images ({error})") from error
    if array.ndim == 4 and array.shape[-1] in COLOURS and array.shape[1] not in COLOURS:
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim == 3:
        array = array[:, None]
    return image_set_of(path, array.shape, array.dtype, lambda first, last: array[first:last])


def _array(path: Path) -> NDArray[np.generic]:
    """The images of a file of arrays; bytes where they are none."""
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                return np.asanyarray(file.get_tensor(_key(list(file.keys()))))
        except (SafetensorError, TypeError) as error:
            raise ValueError(error) from error
    array = np.load(path, allow_pickle=False)
    if isinstance(array, np.ndarray):
        return array
    with array as arrays:
        return np.asanyarray(arrays[_key(arrays.files)])


def _key(names: list[str]) -> str:
    known = [name for name in KEYS if name in names] or (names if len(names) == 1 else [])
    if not known:
        raise LookupError(f"it holds {', '.join(names) or 'nothing':.100}")
    return known[0]


def image_set_of(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    take: Callable[[int, int], NDArray[np.generic]],
) -> ImageSet:
    """Images of an array (n, C, H, W): complex, float in [-1, 1], or bytes.

    Floats that are never negative are taken for [0, 1], or for 0 ... 255 where some are above 2; a
    warning says so.

    Raises:
        UsageError: of another shape or kind.
    """
    if (
        len(shape) != 4
        or not all(shape)
        or dtype.kind not in "cfu"
        or (dtype.kind == "u" and dtype != np.uint8)
    ):
        raise UsageError(f"{path}: needs images (n, C, H, W), complex, float or bytes, not {dtype} {shape}")
    complex_valued = dtype.kind == "c"
    scale = _scale(path, take(0, min(shape[0], LOOKED_AT))) if dtype.kind == "f" else None

    def tensors(first: int, last: int) -> Tensor:
        array = np.ascontiguousarray(take(first, last))
        if array.dtype == np.uint8:
            return from_bytes(array)
        images = torch.from_numpy(array.astype(np.complex64 if complex_valued else np.float32, copy=False))
        return images if scale is None else images / (scale / 2) - 1

    return ImageSet(str(path), shape[0], (shape[1], shape[2], shape[3]), complex_valued, tensors)


def _scale(path: Path, sample: NDArray[np.generic]) -> float | None:
    """The value of white where black is 0; None for images in [-1, 1]."""
    values = np.asarray(sample, np.float64)
    if not values.size or not np.isfinite(values).all() or values.min() < 0 or values.max() == 0:
        return None
    scale = 255.0 if values.max() > 2 else 1.0
    warnings.warn(
        f"{path}: values from {values.min():.3g} to {values.max():.3g} are taken for 0 ... {scale:g}; "
        "store bytes, or floats in [-1, 1]",
        stacklevel=4,
    )
    return scale


def from_bytes(pictures: Bytes) -> Tensor:
    """0 ... 255 to [-1, 1]."""
    return torch.from_numpy(pictures).float() / 127.5 - 1
