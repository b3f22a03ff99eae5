"""Write a volume as fastMRI does: k-space, target, header, attributes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from mrigen import fourier, hdf5
from mrigen.prep.ismrmrd import Header, write


def write_volume(
    path: Path,
    chunks: Iterable[Tensor],
    shape: tuple[int, int, int, int],
    header: Header,
    *,
    recon_shape: tuple[int, int],
    patient_id: str,
    acquisition: str,
    user_parameters: dict[str, str],
) -> None:
    """Write a fastMRI HDF5 file atomically.

    ``kspace`` is complex64 (slices, coils, H, W), or (slices, H, W) for one coil; the target is the
    root sum of squares of the coil images, cropped to ``recon_shape`` about the centre, float32,
    under the name ``reconstruction_rss``, for one coil also ``reconstruction_esc``.

    Args:
        path: the file.
        chunks: consecutive slices of k-space, complex64 (n, coils, H, W).
        shape: slices, coils, H and W of the whole volume.
        header: acquisition parameters; every one must be given.
        recon_shape: height and width of the target.
        patient_id: attribute ``patient_id``.
        acquisition: attribute ``acquisition``.
        user_parameters: strings to be kept in the header.
    """
    slices, coils, *matrix = shape
    target = np.empty((slices, *recon_shape), np.float32)
    with hdf5.writer(path) as file:
        stored = (slices, *matrix) if coils == 1 else shape
        kspace = file.create_dataset("kspace", stored, np.complex64)
        first = 0
        for chunk in chunks:
            rows = slice(first, first + len(chunk))
            kspace[rows] = chunk.reshape(len(chunk), *stored[1:]).numpy()
            target[rows] = _cropped_rss(chunk, recon_shape).numpy()
            first += len(chunk)
        file["reconstruction_rss"] = target
        if coils == 1:
            file["reconstruction_esc"] = target
        file["ismrmrd_header"] = write(header, user_parameters)
        file.attrs["max"] = float(target.max())
        file.attrs["norm"] = float(np.linalg.norm(target))
        file.attrs["acquisition"] = acquisition
        file.attrs["patient_id"] = patient_id


def _cropped_rss(kspace: Tensor, shape: tuple[int, int]) -> Tensor:
    images = fourier.ifft(kspace).abs().square().sum(1).sqrt()
    top, left = ((have - want) // 2 for have, want in zip(images.shape[1:], shape, strict=True))
    return images[:, top : top + shape[0], left : left + shape[1]]
