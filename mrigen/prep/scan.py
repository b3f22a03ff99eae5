"""What a file of raw k-space declares, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrigen.data.slice_geometry import SliceGeometry
from mrigen.prep import ismrmrd

MAX_SLICE_BYTES = 1 << 30
MASKS = ("mask", "masks", "sampling_mask")
Mask = NDArray[np.bool_]
ReadSlices = Callable[[list[int]], Tensor]


@dataclass(frozen=True, eq=False)
class Scan:
    """What a fastMRI file declares; nothing of it identifies a patient.

    Attributes:
        path: the file.
        slices: number of slices.
        coils: number of coils, 1 for fastMRI's single-coil layout.
        height: readout samples, H.
        width: phase-encode lines, W.
        header: acquisition parameters.
        mask: sampled lines (W,) or points (H, W) of data that were undersampled at the scanner, DC in the
            centre, or (slices, 1, W) or (slices, H, W) where slices differ; None for fully sampled data.
            A reader gives what the file has, see ``mrigen.prep.measured``.
        complete: every point was measured, whatever values it has.
        full: the data hold every acquired point, also those that the mask leaves out.
        inferred: the mask was seen by the zeros of the data.
        acquisition: contrast, for example ``AXT2``.
        head: name of a simulated head of several.
        subject: who was scanned, a number or pseudonym that keeps files of one person together; never stored.
        geometry: where the slices lie in the patient, or None where the file does not say.
        noise: samples of a noise scan (coils, n) of the data's bandwidth and gain, or None.
        choices: length of every further axis of the file, of which one number was chosen.
        notes: what a user should know about this file, one line each.
    """

    path: Path
    slices: int
    coils: int
    height: int
    width: int
    header: ismrmrd.Header = field(default_factory=ismrmrd.Header)
    mask: Mask | None = None
    complete: bool = False
    full: bool = True
    inferred: bool = False
    acquisition: str | None = None
    head: str | None = None
    subject: str | None = None
    geometry: SliceGeometry | None = None
    noise: NDArray[np.complex64] | None = None
    choices: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> bool:
        """Whether single points are missing and not whole phase-encode lines."""
        return self.mask is not None and self.mask.ndim > 1 and self.mask.shape[-2] > 1

    @property
    def slice_bytes(self) -> int:
        """Bytes of one slice of k-space in complex64."""
        return 8 * self.coils * self.height * self.width

    def whitelist(self) -> dict[str, object]:
        """What may be copied into a store."""
        contrast = {} if self.acquisition is None else {"acquisition": self.acquisition}
        place = {} if self.geometry is None else {"geometry": self.geometry.model_dump(mode="json")}
        return {**contrast, **self.header.whitelist(), **place}


def one_slice(coils: int) -> str:
    """A note on k-space with three axes."""
    return (
        f"three axes are read as one slice of {coils} coils, (coils, H, W); store slices of one coil as "
        "(slices, 1, H, W)"
    )
