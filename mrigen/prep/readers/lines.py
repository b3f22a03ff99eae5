"""Readouts of a scanner, one after another, sorted into k-space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.prep import ismrmrd
from mrigen.prep.readers.volumes import as_mask

MOST_BYTES = 1 << 36


@dataclass(frozen=True)
class Place:
    """Where a readout belongs.

    Attributes:
        slice: number of the slice.
        partition: number of the second phase encode.
        line: number of the first phase encode.
        first: row of its first sample; may be negative or lead beyond the end, which is cut off.
    """

    slice: int
    partition: int
    line: int
    first: int


class Grid:
    """k-space that readouts are added to; a line that was measured several times is averaged.

    Args:
        path: for messages.
        shape: slices, coils, partitions, H and W.

    Raises:
        UsageError: it would need more than 64 GiB.
    """

    def __init__(self, path: str, shape: tuple[int, int, int, int, int]) -> None:
        slices, _, partitions, height, width = shape
        if 8 * np.prod(shape, dtype=object) > MOST_BYTES:
            raise UsageError(f"{path}: k-space of {' x '.join(map(str, shape))} needs more than 64 GiB")
        self.kspace = np.zeros(shape, np.complex64)
        self._count = np.zeros((slices, partitions, height, width), np.uint16)

    def add(self, samples: NDArray[np.complex64], place: Place) -> bool:
        """Add a readout (coils, samples); False where it lies outside of the grid."""
        slices, coils, partitions, height, width = self.kspace.shape
        inside = 0 <= place.slice < slices and 0 <= place.partition < partitions and 0 <= place.line < width
        if not inside or len(samples) != coils:
            return False
        low, high = max(place.first, 0), min(place.first + samples.shape[1], height)
        if low >= high:
            return False
        rows = slice(low, high)
        self.kspace[place.slice, :, place.partition, rows, place.line] += samples[
            :, low - place.first : high - place.first
        ]
        self._count[place.slice, place.partition, rows, place.line] += 1
        return True

    def finish(self) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
        """k-space (slices, coils, partitions, H, W) and what was measured (slices, partitions, H, W)."""
        if (self._count > 1).any():
            self.kspace /= np.maximum(self._count, 1)[:, None]
        return self.kspace, self._count > 0


def sampled(
    kspace: NDArray[np.complex64], measured: NDArray[np.bool_], header: ismrmrd.Header, notes: list[str]
) -> dict[str, Any]:
    """Mask, completeness and notes of slices, from the points that were measured (slices, H, W).

    What not all slices hold becomes 0 in ``kspace``, (slices, coils, H, W), and a note says so.

    A scan is complete where all lines were measured that the header's limits leave, partial Fourier included.
    """
    every = np.asarray(measured.all(0))
    if (measured != every).any():
        kspace *= every
        notes.append("slices hold different lines; those that all of them hold are used")
    left, right = header.acquired_lines(every.shape[1]) or (0, every.shape[1])
    complete = bool(every[:, left:right].all())
    return {"mask": None if complete else as_mask(every), "complete": complete, "notes": tuple(notes)}
