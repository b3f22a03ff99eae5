"""Noise level of a scan: from its noise scan, else from air, and whether the two agree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigen.coils.noise_level import corner_levels, edge_levels, scan_levels
from mrigen.errors import UsageError
from mrigen.prep.kspace import sampling
from mrigen.prep.scan import ReadSlices, Scan

PROBED_SLICES, PROBED_BYTES = 16, 64 << 20
DISAGREE = 1.1


@dataclass(frozen=True, eq=False)
class NoiseLevel:
    """σ per real component of k-space samples, in the file's units.

    Attributes:
        levels: of each coil, float64 (coils,).
        source: ``noise scan``, ``image corners`` or ``ends of the readout``.
        note: a line where noise scan and air disagree, else empty.
    """

    levels: Tensor
    source: str
    note: str = ""

    @property
    def sigma(self) -> float:
        """Root mean square over the coils."""
        return float(self.levels.square().mean().sqrt())


def noise_level(scan: Scan, read: ReadSlices, slices: list[int]) -> NoiseLevel | None:
    """The noise level of a scan, None where nothing shows it.

    Args:
        scan: what the file declares.
        read: gives its k-space.
        slices: of which up to 16, evenly spread, are looked at.
    """
    probed = max(1, min(PROBED_SLICES, PROBED_BYTES // scan.slice_bytes))
    kspace = read(slices[:: -(-len(slices) // probed)])
    air, where = _air(scan, kspace)
    if scan.noise is None:
        return None if air is None else NoiseLevel(air, where)
    levels = scan_levels(torch.from_numpy(scan.noise))
    note = ""
    if air is not None:
        ratio = float((air / levels).median())
        if not 1 / DISAGREE < ratio < DISAGREE:
            note = (
                f"the noise scan and the {where} disagree: σ in the air is {ratio:.2f} times the noise scan's"
            )
    return NoiseLevel(levels, "noise scan", note)


def _air(scan: Scan, kspace: Tensor) -> tuple[Tensor | None, str]:
    if scan.mask is None:
        padding = scan.header.acquired_lines(scan.width)
        try:
            acquired = sampling.acquired_lines(sampling.lines_with_data(kspace).any(0), padding)
        except UsageError:
            return None, ""
        return corner_levels(kspace, acquired), "image corners"
    if scan.mask.ndim == 1:
        return edge_levels(kspace, torch.from_numpy(scan.mask)), "ends of the readout"
    return None, ""
