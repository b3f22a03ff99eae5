"""Smooth coil sensitivities of a birdcage array that sits a little differently in every volume."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GRID = (24, 48, 48)
RADIUS = 1.05
REACH = 1.1
NODES = (6, 24, 24)
COILS_PER_RING = 8
Double = NDArray[np.float64]


class CoilArray:
    """``sigpy.mri.birdcage_maps`` turned about the bore and moved.

    The unit of the array's coordinates is 1.1 times half the in-plane diagonal of the field of
    view, so that the field of view, turned, stays within the grid on which sigpy draws the maps.

    Args:
        coils: number of coils, at most eight on each ring.
        angle: turn about the bore in radians.
        offset: displacement along z, y, x in units of the array's coordinates.
    """

    def __init__(self, coils: int, angle: float, offset: tuple[float, float, float]) -> None:
        self.coils = coils
        self._turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._offset = np.array(offset)[:, None, None, None]

    def maps(self, z: Double, y: Double, x: Double) -> tuple[Tensor, ...]:
        """Prepare the sensitivities of slices on the grid of z, y and x in mm.

        Returns:
            Factors for ``slices``: node values (coils, z, y, x) and an interpolation matrix per axis.
        """
        from scipy import ndimage

        unit = REACH * np.hypot(np.abs(y).max(), np.abs(x).max())
        axes = [a / unit for a in (z, y, x)]
        nodes = [np.linspace(a.min(), a.max(), min(len(a), n)) for a, n in zip(axes, NODES, strict=True)]
        grid = np.stack(np.meshgrid(*nodes, indexing="ij"))
        grid[1:] = np.einsum("ij,jzyx->izyx", self._turn, grid[1:])
        half = np.array(GRID)[:, None, None, None] / 2
        index = (grid + self._offset) * half + half
        values = [
            ndimage.map_coordinates(plane, index, order=3, prefilter=False, mode="nearest", output=np.float32)
            for plane in _birdcage(self.coils)
        ]
        node_values = torch.complex(*torch.from_numpy(np.stack(values)).chunk(2))
        return node_values, *(_interpolation(n, a) for n, a in zip(nodes, axes, strict=True))


def slices(prepared: tuple[Tensor, ...], rows: slice) -> Tensor:
    """Sensitivities (slices, coils, H, W), complex64, with root sum of squares 1."""
    nodes, along_z, along_y, along_x = prepared
    maps = torch.einsum("sz,czyx->scyx", along_z[rows], nodes)
    maps = along_y @ maps @ along_x.T
    return maps / maps.abs().square().sum(1, keepdim=True).sqrt()


@lru_cache(maxsize=1)
def _birdcage(coils: int) -> NDArray[np.float32]:
    """Spline coefficients of sigpy's maps, (2 coils, z, y, x): real parts, then imaginary parts."""
    import sigpy.mri
    from scipy import ndimage

    rings = -(-coils // COILS_PER_RING)
    maps = sigpy.mri.birdcage_maps((coils, *GRID), r=RADIUS, nzz=-(-coils // rings))
    parts = [*maps.real, *maps.imag]
    return np.stack([ndimage.spline_filter(part, 3, output=np.float32) for part in parts])


def _interpolation(nodes: Double, targets: Double) -> Tensor:
    """Cubic spline interpolation from ``nodes`` to ``targets`` as a matrix, complex64."""
    if len(nodes) == len(targets) and np.array_equal(nodes, targets):
        matrix = np.eye(len(nodes))
    else:
        from scipy import interpolate

        spline = interpolate.make_interp_spline(nodes, np.eye(len(nodes)), k=min(3, len(nodes) - 1))
        matrix = spline(targets)
    return torch.from_numpy(matrix.astype(np.complex64))
