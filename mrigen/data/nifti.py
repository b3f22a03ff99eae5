"""Magnitudes as NIfTI volumes."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrigen.files import atomic

NIFTI1_MOST = 32767
Voxel = tuple[float, float, float]
"""Size along H, W and the slices, in mm."""


def write_nifti(
    path: Path, count: int, slices: Iterable[NDArray[np.float32]], voxel: Voxel | None = None
) -> None:
    """Write a volume (W, H, count) atomically, one batch of slices in memory; ``.gz`` is compressed.

    NIfTI's first axis is left-right, as the columns of an axial slice are, and the second one front-back, as
    its rows are. Where the patient lay is not known, so that the codes of both transforms to patient
    coordinates stay 0, unknown, and nothing is flipped: row 0 comes first, and viewers that draw the
    second axis upwards show it at the bottom. More than 32,767 slices need NIfTI-2.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        count: number of slices.
        slices: batches (n, H, W), at least one.
        voxel: None where nobody says; voxels count as 1 then, and no unit is claimed.
    """
    import nibabel

    image = nibabel.Nifti1Image if count <= NIFTI1_MOST else nibabel.Nifti2Image
    header = image.header_class()
    header.set_data_dtype("<f4")
    header.set_xyzt_units("mm" if voxel else "unknown")
    along_h, along_w, along_slices = voxel or (1.0, 1.0, 1.0)
    with atomic(path) as temporary, temporary.open("wb") as raw:
        file = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        for batch in slices:
            if not file.tell():
                header.set_data_shape((batch.shape[2], batch.shape[1], count))
                header.set_zooms((along_w, along_h, along_slices))
                header.set_data_offset(header.single_vox_offset)
                header.write_to(file)
                file.write(bytes(header.single_vox_offset - file.tell()))
            file.write(np.ascontiguousarray(batch, "<f4").tobytes())
        if file is not raw:
            file.close()
