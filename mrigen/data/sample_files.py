"""Generated images in the files that other programs read; every writer holds one batch at a time."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mrigen.data.images import FOLDED, write_images
from mrigen.errors import UsageError
from mrigen.files import atomic, scratch

Shape = tuple[int, int, int]
Read = Callable[[], Iterable[Tensor]]
"""Batches of images (B, C, H, W), from the start at every call."""
Writer = Callable[[Path, list[int], Read], None]
"""Writes the images of seeds, at least one, to a path."""
EPOCH = (1980, 1, 1, 0, 0, 0)
MODES = {1: "L", 3: "RGB"}
NIFTI1_MOST = 32767
Voxel = tuple[float, float, float]
"""Size along H, W and the slices, in mm."""


def writer_of(out: Path, shape: Shape, *, complex_valued: bool) -> Writer:
    """The writer for a result's name: ``.h5``, ``.npz``, ``.zip``, or none for a folder.

    Raises:
        UsageError: the name means nothing, the images do not fit that kind of file, or the folder is not
            empty.
    """
    kinds: dict[str, Writer] = {
        ".h5": _hdf5,
        ".hdf5": _hdf5,
        ".npz": _npz,
        ".zip": _zip,
        "": _scan_folder if complex_valued else _picture_folder,
    }
    suffix = out.suffix.lower()
    if suffix not in kinds:
        raise UsageError(f"--out {out}: ends in none of .h5, .npz, .zip; a folder's name has no dot")
    pictures = suffix == ".zip" or (not suffix and not complex_valued)
    if pictures and complex_valued:
        raise UsageError(f"--out {out}: complex images do not fit into PNG; give .h5, .npz or a folder")
    if pictures and shape[0] not in MODES:
        raise UsageError(f"--out {out}: {shape[0]} channels do not fit into PNG; give .h5 or .npz")
    if not suffix and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: exists already; give another folder or delete it")
    return kinds[suffix]


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] (B, C, H, W) to 0 ... 255 (B, H, W, C)."""
    scaled = ((images.clamp(-1, 1) + 1) * 127.5).round()
    pictures: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)
    return pictures


def write_magnitudes(path: Path, count: int, read: Read) -> None:
    """Magnitudes of complex images (B, 1, H, W) as a NIfTI volume of ``count`` slices."""
    write_nifti(path, count, (batch[:, 0].abs().cpu().numpy() for batch in read()))


def _hdf5(path: Path, seeds: list[int], read: Read) -> None:
    write_images(path, seeds, read())


def _npz(path: Path, seeds: list[int], read: Read) -> None:
    """Complex ``images`` (n, C, H, W), or bytes ``arr_0`` (n, H, W, C) as other programs take them."""
    batches = iter(read())
    first = next(batches)
    key, rows = ("images", Tensor.numpy) if first.is_complex() else ("arr_0", to_bytes)
    descr, shape = npy.dtype_to_descr(rows(first).dtype), (len(seeds), *rows(first).shape[1:])
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open(zipfile.ZipInfo(f"{key}.npy", EPOCH), "w", force_zip64=True) as file:
            npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
            for batch in chain([first], batches):
                file.write(np.ascontiguousarray(rows(batch)).data)
        with archive.open(zipfile.ZipInfo("seeds.npy", EPOCH), "w") as file:
            npy.write_array(file, np.asarray(seeds, np.int64))


def _zip(path: Path, seeds: list[int], read: Read) -> None:
    """PNG files, named by their seeds."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in _pngs(seeds, read()):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content)


def _picture_folder(path: Path, seeds: list[int], read: Read) -> None:
    """PNG files, named by their seeds."""
    with _whole_folder(path) as folder:
        for name, content in _pngs(seeds, read()):
            (folder / name).write_bytes(content)


def _scan_folder(path: Path, seeds: list[int], read: Read) -> None:
    """``images.h5``, complex, and ``magnitude.nii``."""
    with _whole_folder(path) as folder:
        _hdf5(folder / FOLDED, seeds, read)
        write_magnitudes(folder / "magnitude.nii", len(seeds), read)


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that appears when it is complete."""
    with scratch(path) as folder:
        whole = folder / path.name
        whole.mkdir()
        yield whole
        whole.replace(path)


def _pngs(seeds: list[int], batches: Iterable[Tensor]) -> Iterator[tuple[str, bytes]]:
    numbers = iter(seeds)
    for batch in batches:
        for picture in to_bytes(batch):
            buffer = BytesIO()
            mode = MODES[picture.shape[2]]
            Image.fromarray(picture[..., 0] if mode == "L" else picture).save(buffer, "png")
            yield f"{next(numbers):06d}.png", buffer.getvalue()


def write_nifti(
    path: Path,
    count: int,
    slices: Iterable[NDArray[Any]],
    voxel: Voxel | None = None,
    affine: NDArray[np.float64] | None = None,
    description: str = "",
) -> None:
    """Write a volume (W, H, count) atomically, one batch of slices in memory; ``.gz`` is compressed.

    NIfTI's first axis is left-right, as the columns of an axial slice are, and the second one front-back, as
    its rows are. Nothing is flipped: row 0 comes first. Where the affine is given, both transforms to
    patient coordinates say so with code 1 (scanner); the quaternion form is left out where the affine
    shears. Where it is not known where the patient lay, both codes stay 0, unknown, and viewers that draw
    the second axis upwards show row 0 at the bottom. More than 32,767 slices need NIfTI-2.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        count: number of slices.
        slices: batches (n, H, W), at least one; complex64 is kept, everything else becomes float32.
        voxel: None where nobody says; voxels count as 1 then, and no unit is claimed.
        affine: voxel (column, row, slice) to RAS millimetres, (4, 4), or None.
        description: of at most 79 characters, for the header.
    """
    import nibabel

    image = nibabel.Nifti1Image if count <= NIFTI1_MOST else nibabel.Nifti2Image
    header = image.header_class()
    header["descrip"] = description[:79]
    header.set_xyzt_units("mm" if voxel or affine is not None else "unknown")
    along_h, along_w, along_slices = voxel or (1.0, 1.0, 1.0)
    if affine is not None:
        along_w, along_h, along_slices = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    with atomic(path) as temporary, temporary.open("wb") as raw:
        file = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        for batch in slices:
            if not file.tell():
                kind = "<c8" if np.iscomplexobj(batch) else "<f4"
                header.set_data_dtype(kind)
                header.set_data_shape((batch.shape[2], batch.shape[1], count))
                header.set_zooms((along_w, along_h, along_slices))
                if affine is not None:
                    _place(header, affine)
                header.set_data_offset(header.single_vox_offset)
                header.write_to(file)
                file.write(bytes(header.single_vox_offset - file.tell()))
            file.write(np.ascontiguousarray(batch, kind).tobytes())
        if file is not raw:
            file.close()


def _place(header: Any, affine: NDArray[np.float64]) -> None:
    header.set_sform(affine, code=1)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        header.set_qform(affine, code=1)
