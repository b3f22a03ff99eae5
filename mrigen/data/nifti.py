"""Magnitudes as NIfTI volumes."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigen.files import atomic

NIFTI1_MOST = 32767
Voxel = tuple[float, float, float]
"""Size along H, W and the slices, in mm."""


def write_nifti(
    path: Path,
    count: int,
    slices: Iterable[NDArray[Any]],
    voxel: Voxel | None = None,
    affine: NDArray[np.float64] | None = None,
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
    """
    import nibabel

    image = nibabel.Nifti1Image if count <= NIFTI1_MOST else nibabel.Nifti2Image
    header = image.header_class()
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
