"""Pictures as people keep them: folders and zip archives of PNG or JPEG files, and arrays in ``npz``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mrigen.data.pool import Pool
from mrigen.errors import UsageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
GREY = {"1", "L"}
DEEP = {"I;16", "I;16B", "I;16L", "I", "F"}
KEYS = ("images", "arr_0")
MAX_BYTES = 1 << 28  # of one picture's file
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # the last: encrypted, unknown compression
Bytes = NDArray[np.uint8]


def open_folder(path: Path) -> Pool:
    """Pictures of a folder and the folders in it, in the order of their names.

    Raises:
        UsageError: there are none, or the first cannot be read.
    """
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    return _pool(path, [str(p.relative_to(path)) for p in files], lambda name: (path / name).read_bytes())


def open_zip(path: Path) -> Pool:
    """Pictures of a zip archive, in the order of their names.

    Raises:
        UsageError: no archive, there are none in it, or the first cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if Path(n).suffix.lower() in SUFFIXES)
    except (*DAMAGE, OSError) as error:
        raise UsageError(f"{path}: no zip archive ({error}); write the samples again") from error

    def raw(name: str) -> bytes:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        return content

    return _pool(path, names, raw)


def open_npz(path: Path) -> Pool:
    """Images of an ``npz`` file: ``images`` (n, C, H, W), or others' ``arr_0`` of bytes (n, H, W, C).

    Raises:
        UsageError: it holds no such array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            key = next(k for k in KEYS if k in file.files)
            array = np.asanyarray(file[key])  # bytes where it is no array
    except (OSError, ValueError, StopIteration, MemoryError, *DAMAGE) as error:
        raise UsageError(f"{path}: needs an array {' or '.join(KEYS)} of images ({error})") from error
    if key == "arr_0" and array.ndim == 4:
        array = array.transpose(0, 3, 1, 2)
    return array_pool(path, array.shape, array.dtype, lambda first, last: array[first:last])


def array_pool(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    take: Callable[[int, int], NDArray[np.generic]],
) -> Pool:
    """Images of an array (n, C, H, W): complex, float in [-1, 1], or bytes.

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

    def tensors(first: int, last: int) -> Tensor:
        found = np.ascontiguousarray(take(first, last))
        if found.dtype == np.uint8:
            return from_bytes(found)
        return torch.from_numpy(found.astype(np.complex64 if complex_valued else np.float32, copy=False))

    return Pool(str(path), shape[0], (shape[1], shape[2], shape[3]), complex_valued, tensors)


def from_bytes(pictures: Bytes) -> Tensor:
    """0 ... 255 to [-1, 1]."""
    return torch.from_numpy(pictures).float() / 127.5 - 1


def _pool(path: Path, names: list[str], raw: Callable[[str], bytes]) -> Pool:
    if not names:
        raise UsageError(f"{path}: no pictures here ({', '.join(sorted(SUFFIXES))}); give what was sampled")
    shape = _decoded(path, names[0], raw).shape

    def take(first: int, last: int) -> Tensor:
        found = [_decoded(path, name, raw) for name in names[first:last]]
        for name, picture in zip(names[first:last], found, strict=True):
            if picture.shape != shape:
                raise UsageError(f"{path}/{name}: is {picture.shape} (C, H, W), the first image is {shape}")
        return from_bytes(np.stack(found))

    return Pool(str(path), len(names), (shape[0], shape[1], shape[2]), complex_valued=False, take=take)


def _decoded(path: Path, name: str, raw: Callable[[str], bytes]) -> Bytes:
    """Bytes (C, H, W) of a picture, grey or in colour."""
    try:
        with Image.open(BytesIO(raw(name))) as file:
            mode = file.mode
            array = np.asarray(file.convert("L" if mode in GREY else "RGB"))
    except (OSError, ValueError, *DAMAGE, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}/{name}: cannot be read ({error})") from error
    if mode in DEEP:
        raise UsageError(f"{path}/{name}: has more than 8 bits; write bytes, or HDF5 for MR images")
    return array[None] if mode in GREY else array.transpose(2, 0, 1)
