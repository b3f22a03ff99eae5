"""A head as a map of labels, painted with the contrast of a sequence."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from mrigen.prep.simulate.grids import MONOMIALS, Grid
from mrigen.prep.simulate.tissues import TISSUES, LabelTable, Tissue, intensity, sequence_of
from mrigen.seeds import seeded_rng

FILLED = 0.4
WARP_MM = {1: 0.0, 2: 2.0, 3: 1.5}
BIAS = {1: 0.12, 2: 0.1, 3: 0.05}
TEXTURE_MM = 4.0
APART = 1.5
SPECKS = 0.02
TINY = float(np.finfo(np.float32).tiny)
Double = NDArray[np.float64]
Float = NDArray[np.float32]
Complex = NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Numbered tissues on a grid: axis 0 left to right, 1 posterior to anterior, 2 inferior to superior.

    Attributes:
        labels: index into ``numbers`` of each voxel, uint8 (x, y, z).
        numbers: the label numbers; what is no air fills the head.
        voxel: voxel size in mm.
        table: tissues of the numbers.
    """

    labels: NDArray[np.uint8]
    numbers: tuple[int, ...]
    voxel: Double
    table: LabelTable = field(default_factory=lambda: LabelTable({}))

    @cached_property
    def unknown(self) -> list[int]:
        """Numbers of no known tissue; each has a random intensity in every volume."""
        return sorted(number for number in self.numbers if self.table[number] is None)

    @cached_property
    def filled(self) -> NDArray[np.bool_]:
        """Which of ``numbers`` belong to the head."""
        return np.array([self._tissue(number) is not TISSUES["air"] for number in self.numbers])

    @cached_property
    def box(self) -> tuple[Double, Double]:
        """Smallest and largest coordinates in mm of the head, at the height of ``heights``.

        Neck and chin, which lie below, are no part of the field of view, nor are planes that hold less than
        2 % of what the fullest one holds: the tip of the nose, ears, specks.
        """
        low, high = (round(height / self.voxel[2]) for height in self.heights)
        seen = self.filled[self.labels[:, :, low : high + 1]]
        held = (seen.sum(axes) for axes in ((1, 2), (0, 2)))
        across = [np.flatnonzero(n > SPECKS * n.max()) * v for n, v in zip(held, self.voxel, strict=False)]
        lowest, highest = self.heights
        low_corner, high_corner = [float(a[0]) for a in across], [float(a[-1]) for a in across]
        return np.array([*low_corner, lowest]), np.array([*high_corner, highest])

    @cached_property
    def heights(self) -> tuple[float, float]:
        """Lowest and highest coordinate in mm of the brain, or of the head where no brain is labelled."""
        area = self._area
        present = np.flatnonzero(area) * self.voxel[2]
        return float(present[0]), float(present[-1])

    @cached_property
    def filled_slices(self) -> tuple[float, float]:
        """Heights in mm between which slices hold at least 40 % of the brain's area in the fullest one."""
        filled = np.flatnonzero(self._area >= FILLED * self._area.max()) * self.voxel[2]
        return float(filled[0]), float(filled[-1])

    @cached_property
    def _area(self) -> NDArray[np.int64]:
        """Voxels of the brain in each axial slice; of the head where no brain is labelled."""
        tissues = [self._tissue(number) for number in self.numbers]
        brain = np.array([tissue is not None and tissue.brain for tissue in tissues])
        chosen = brain if brain.any() and brain[np.unique(self.labels)].any() else self.filled
        return np.asarray(chosen[self.labels].sum((0, 1)))

    def _tissue(self, number: int) -> Tissue | None:
        known = self.table[number]
        return TISSUES[known] if isinstance(known, str) else known

    def blurred(self, resolution: tuple[float, float, float]) -> LabelMap:
        """Itself: painting averages over each voxel of the acquisition."""
        del resolution
        return self

    def intensities(self, contrast: str, seed: int, volume: int) -> Complex:
        """Mean (real part) and spread (imaginary part) of each of ``numbers``, then 0 for what is outside.

        A tissue has the same intensity on both sides; the brightest one's mean is 1.
        """
        sequence = sequence_of(contrast, seed, volume)
        values = np.zeros(len(self.numbers) + 1, np.complex64)
        for index, number in enumerate(self.numbers):
            known = self.table[number]
            key = known if isinstance(known, str) else number
            rng = seeded_rng(seed, "paint", volume, key)
            values[index] = intensity(self._tissue(number), sequence, rng)
        return np.asarray(values / max(float(values.real.max()), TINY), np.complex64)

    def image(
        self, grid: Grid, affine: Double, centre: Double, rng: torch.Generator, paint: tuple[str, int, int]
    ) -> Float:
        """Magnitude (S, H, W) of a painted volume.

        Labels are looked up at points no farther apart than 1.5 voxels of the map, painted, and averaged
        over each voxel of the acquisition, which gives partial volumes. Inside a tissue the intensity
        varies smoothly, over about 4 mm; a smooth bias field multiplies all. Polynomials of the second and
        third degree, a few mm at the edge of the field of view, bend the head.

        Args:
            grid: voxels of the acquisition.
            affine: scanner to head (3, 3).
            centre: what of the head, in mm, lies in the middle of the grid (3,).
            rng: source of warp, texture and bias.
            paint: contrast, seed and number of the volume, which the intensities are drawn by.
        """
        bent = self._coefficients(grid, affine, centre, rng)
        mean_and_spread = self._averaged(grid, bent, self.intensities(*paint))
        texture = self._texture(grid, rng)
        bias = np.exp(grid.polynomial(rng, BIAS, 0.0)).astype(np.float32)
        return np.maximum(mean_and_spread.real + mean_and_spread.imag * texture, 0) * bias

    def _coefficients(self, grid: Grid, affine: Double, centre: Double, rng: torch.Generator) -> Double:
        """Index of the map along each axis as a polynomial of z, y, x in units of half the field of view.

        Returns:
            (3, 4, 4, 4), coefficient of zⁱ yʲ xᵏ.
        """
        coefficients = np.zeros((3, 4, 4, 4))
        weights = torch.randn(3, len(MONOMIALS), generator=rng, dtype=torch.float64).numpy()
        for column, (i, j, k) in enumerate(MONOMIALS):
            coefficients[:, i, j, k] = WARP_MM[i + j + k] * weights[:, column]
        coefficients[:, 0, 0, 1], coefficients[:, 0, 1, 0], coefficients[:, 1, 0, 0] = (affine * grid.half).T
        coefficients[:, 0, 0, 0] = centre
        return coefficients / self.voxel[:, None, None, None]

    def _averaged(self, grid: Grid, bent: Double, painted: Complex) -> Complex:
        """Mean of ``painted`` over the voxels of the acquisition, (S, H, W)."""
        across, through = max(grid.pixel, self.voxel[:2].max()), max(grid.thickness, self.voxel[2])
        inner = max(2, int(np.ceil(across / (APART * self.voxel[:2].min()))))
        layers = max(1, int(np.ceil(through / (APART * self.voxel[2]))))
        rows, columns = (_powers(_finer(axis, across, inner) / grid.half) for axis in (grid.y, grid.x))
        heights = _powers(_finer(grid.z, through, layers) / grid.half)
        size = (len(grid.y), inner, len(grid.x), inner)
        image = np.empty((len(grid.z), len(grid.y), len(grid.x)), np.complex64)
        for number in range(len(grid.z)):
            layer = np.zeros((len(rows), len(columns)), np.complex64)
            for power in heights[number * layers : (number + 1) * layers]:
                layer += painted[self._looked_up(np.einsum("i,aijk->ajk", power, bent), rows, columns)]
            image[number] = layer.reshape(size).mean((1, 3)) / layers
        return image

    def _looked_up(self, plane: Double, rows: Float, columns: Float) -> NDArray[np.uint8]:
        """Labels of a plane whose indices are polynomials of row and column; outside, their number."""
        flat = np.zeros((len(rows), len(columns)), np.int32)
        outside = np.zeros(flat.shape, bool)
        for coefficients, count in zip(plane.astype(np.float32), self.labels.shape, strict=True):
            index = np.rint(rows @ coefficients @ columns.T).astype(np.int32)
            outside |= index.view(np.uint32) >= count
            flat *= count
            flat += index
        flat[outside] = 0
        indices = self.labels.reshape(-1)[flat]
        indices[outside] = len(self.numbers)
        return np.asarray(indices)

    def _texture(self, grid: Grid, rng: torch.Generator) -> Float:
        """Smooth noise of standard deviation 1, (S, H, W)."""
        from scipy import ndimage

        size = (len(grid.z), len(grid.y), len(grid.x))
        white = torch.randn(size, generator=rng).numpy()
        widths = [TEXTURE_MM / step for step in (grid.spacing, grid.pixel, grid.pixel)]
        smooth = ndimage.gaussian_filter(white, widths)
        return np.asarray(smooth / smooth.std(), np.float32)


def _finer(axis: Double, width: float, count: int) -> Double:
    """``count`` points over ``width`` about every point of an axis, one after the other."""
    offsets = ((np.arange(count) + 0.5) / count - 0.5) * width
    return np.asarray((axis[:, None] + offsets).reshape(-1))


def _powers(values: Double) -> Float:
    """Powers 0 to 3 of each value, (n, 4)."""
    return np.vander(values, 4, increasing=True).astype(np.float32)
