"""Three-dimensional Cartesian k-space as slices that are two-dimensional each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigen import fourier


@dataclass(frozen=True, eq=False)
class Slices:
    """k-space of slices and what was measured of each.

    Attributes:
        kspace: complex64 (slices, coils, H, W).
        measured: bool (H, W), of all slices.
        axis: which of (partition, readout) became the slices.
    """

    kspace: NDArray[np.complex64]
    measured: NDArray[np.bool_]
    axis: str


def transform(kspace: NDArray[Any], axis: int) -> NDArray[np.complex64]:
    """The centred, orthonormal inverse transform along one axis."""
    transformed: NDArray[np.complex64] = fourier.ifft(
        torch.from_numpy(np.ascontiguousarray(kspace, np.complex64)), (axis,)
    ).numpy()
    return transformed


def as_slices(kspace: NDArray[Any], measured: NDArray[np.bool_]) -> Slices:
    """Slices of a volume that was encoded along all three axes.

    Where every partition holds the same points of (readout, phase encode), the inverse transform along the
    partitions gives slices (readout, phase encode). Otherwise, where lines of (phase encode, partition) are
    missing, the readout is the fully sampled axis: its inverse transform gives slices (phase encode,
    partition) with a mask of points.

    Args:
        kspace: complex (coils, partitions, readout, phase encodes).
        measured: bool (partitions, readout, phase encodes).
    """
    held = np.asarray(measured.any((1, 2)))
    inside = np.flatnonzero(held)
    one = measured[inside[0]]
    whole = held[inside[0] : inside[-1] + 1].all() and bool((measured[held] == one).all())
    if whole:
        images = transform(kspace, 1)
        return Slices(np.ascontiguousarray(images.transpose(1, 0, 2, 3)), one, "partition")
    images = transform(kspace, 2)
    return Slices(
        np.ascontiguousarray(images.transpose(2, 0, 3, 1)), np.asarray(measured.any(1)).T, "readout"
    )


def as_mask(measured: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Measured points (H, W) as a reader gives them: None for all, (W,) for whole lines."""
    if measured.all():
        return None
    lines = np.asarray(measured.any(0))
    return lines if (measured == lines).all() else measured


def combine_averages(kspace: NDArray[Any], axis: int, coils: int) -> NDArray[np.complex64]:
    """Mean of the averages of each point over those that measured it; points that none measured stay 0.

    Args:
        kspace: complex.
        axis: of the averages.
        coils: axis of the coils.
    """
    if kspace.shape[axis] == 1:
        return np.asarray(kspace.take(0, axis), np.complex64)
    held = (kspace != 0).any(coils, keepdims=True)
    return np.asarray(kspace.sum(axis) / np.maximum(held.sum(axis), 1), np.complex64)
