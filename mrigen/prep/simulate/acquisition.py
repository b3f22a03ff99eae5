"""A simulated multi-coil Cartesian acquisition of a head: k-space = F S (x e^{iφ}) + noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.prep.simulate import coil_array
from mrigen.prep.simulate.anatomy import BUNDLED, Anatomy, Splines
from mrigen.prep.simulate.grids import Grid, uniform
from mrigen.prep.simulate.label_map import LabelMap
from mrigen.prep.simulate.tissues import CONTRASTS
from mrigen.registry import Params
from mrigen.seeds import seeded_rng

AMPLITUDE = 1e-3
MARGIN = 1.2
CHUNK_BYTES = 64 << 20
TURN_DEGREES = (5.0, 5.0, 12.0)
SCALE, SHEAR, SHIFT_MM = 0.08, 0.04, 4.0
PHASE_RADIANS = {1: 1.2, 2: 0.8, 3: 0.4}
COIL_OFFSET = 0.06
Double = NDArray[np.float64]


class Simulation(Params):
    """What is acquired; volume i is a function of these parameters and i alone.

    Attributes:
        slices: axial slices per volume.
        matrix: readout samples H (before oversampling) and phase-encode lines W.
        coils: receive coils; 1 gives fastMRI's single-coil layout.
        snr: root mean square of the noiseless coil-combined image over the head, divided by the
            standard deviation of the noise per real component of a coil image; ``inf`` for none.
        oversampling: readout samples are H times this, over a field of view as much longer.
        padded_lines: zero-padded phase-encode lines at each edge of k-space.
        slice_range: lowest and highest slice as fractions of the anatomy's height, of a label map the
            brain's; by default where a slice fills at least 40 % of the area of the fullest one.
        slice_thickness: thickness in mm.
        seed: where all randomness comes from.
        anatomy: name or SHA-256 of the anatomy.
        head: name of the anatomy, where there are several or it is a label map.
        contrast: what a label map is painted as: ``t1``, ``t2``, ``pd`` or ``random``.
    """

    slices: Annotated[int, Field(ge=1, le=512)] = 16
    matrix: tuple[Annotated[int, Field(ge=8, le=1024)], Annotated[int, Field(ge=8, le=1024)]] = (128, 128)
    coils: Annotated[int, Field(ge=1, le=64)] = 4
    snr: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 50.0
    oversampling: Annotated[int, Field(ge=1, le=2)] = 1
    padded_lines: Annotated[int, Field(ge=0)] = 0
    slice_range: tuple[float, float] | None = None
    slice_thickness: Annotated[float, Field(gt=0, le=50)] = 3.0
    seed: int = 0
    anatomy: str = BUNDLED
    head: str | None = None
    contrast: str | None = None

    @field_validator("slice_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] < value[1] <= 1:
            raise ValueError("give two fractions of the height, the lower first, for example 0.3 0.7")
        return value

    @field_validator("contrast")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in CONTRASTS:
            raise ValueError(f"unknown contrast {value!r}; choose from {', '.join(CONTRASTS)}")
        return value


@dataclass(frozen=True, eq=False)
class Scanner:
    """Everything that the volumes of one simulation share.

    Attributes:
        simulation: the parameters.
        anatomy: the head.
        source: the head, prepared for the resolution of the matrix.
        pixel: in-plane pixel size in mm.
    """

    simulation: Simulation
    anatomy: Anatomy | LabelMap
    source: Splines | LabelMap
    pixel: float

    @classmethod
    def build(cls, simulation: Simulation, anatomy: Anatomy | LabelMap) -> Scanner:
        """Choose the field of view so that the head, turned, stretched and shifted, fits into the matrix.

        Raises:
            UsageError: no phase-encode lines are left beside the padded ones.
        """
        if 2 * simulation.padded_lines > simulation.matrix[1] - 8:
            raise UsageError(
                f"--padded-lines {simulation.padded_lines}: leaves fewer than 8 of "
                f"{simulation.matrix[1]} lines; give fewer"
            )
        low, high = anatomy.box
        extent = MARGIN * (high - low)
        pixel = float(max(extent[1] / simulation.matrix[0], extent[0] / simulation.matrix[1]))
        source = anatomy.blurred((pixel, pixel, simulation.slice_thickness))
        return cls(simulation, anatomy, source, pixel)

    def acquire(self, number: int) -> Iterator[Tensor]:
        """Slices of volume ``number``, a few at a time: k-space (n, coils, oversampling H, W), complex64."""
        s = self.simulation
        random = seeded_rng(s.seed, "simulate", number)
        grid = self._grid(random)
        head = torch.from_numpy(self._head(grid, random, number))
        rms = head[head > 0.1 * head.max()].square().mean().sqrt() if head.max() > 0 else 0.0
        sigma = float(rms) / s.snr
        phase = grid.polynomial(random, PHASE_RADIANS, uniform(random, [np.pi])[0])
        image = torch.polar(head, torch.from_numpy(phase.astype(np.float32)))
        angle, *offset = uniform(random, [np.pi, COIL_OFFSET, COIL_OFFSET, COIL_OFFSET])
        array = coil_array.CoilArray(s.coils, angle, (offset[0], offset[1], offset[2]))
        prepared = array.maps(grid.z, grid.y, grid.x)
        rows, columns = s.oversampling * s.matrix[0], s.matrix[1]
        before = rows // 2 - s.matrix[0] // 2
        pad = (0, 0, before, rows - s.matrix[0] - before)
        at_once = max(1, CHUNK_BYTES // (8 * s.coils * rows * columns))
        for first in range(0, s.slices, at_once):
            chunk = slice(first, min(first + at_once, s.slices))
            coil_images = coil_array.slices(prepared, chunk) * image[chunk, None]
            kspace = fourier.fft(torch.nn.functional.pad(coil_images, pad))
            noise = [torch.randn(s.shape, dtype=s.dtype, generator=random) for s in kspace]
            kspace += 2**0.5 * sigma * torch.stack(noise)
            if s.padded_lines:
                kspace[..., : s.padded_lines] = 0
                kspace[..., -s.padded_lines :] = 0
            yield AMPLITUDE * kspace

    def _grid(self, random: torch.Generator) -> Grid:
        """Positions in mm relative to the middle of the head."""
        s = self.simulation
        low, high = self.anatomy.heights
        if s.slice_range is None:
            bottom, top = self.anatomy.filled_slices
        else:
            bottom, top = (f * (high - low) + low for f in s.slice_range)
        spacing = (top - bottom) / s.slices
        shift = float(torch.rand(1, generator=random))
        z = bottom + (np.arange(s.slices) + shift) * spacing - (low + high) / 2
        y = -(np.arange(s.matrix[0]) - s.matrix[0] // 2) * self.pixel
        x = (np.arange(s.matrix[1]) - s.matrix[1] // 2) * self.pixel
        return Grid(
            np.asarray(z), np.asarray(y), np.asarray(x), self.pixel, s.slice_thickness, float(spacing)
        )

    def _head(self, grid: Grid, random: torch.Generator, number: int) -> NDArray[np.float32]:
        """Magnitude (slices, H, W): the anatomy turned, stretched, shifted, mirrored and recoloured."""
        low, high = self.anatomy.box
        affine = _affine(random)
        centre = (low + high) / 2 + np.array(uniform(random, [SHIFT_MM] * 3))
        paint = (self.simulation.contrast or CONTRASTS[0], self.simulation.seed, number)
        return self.source.image(grid, affine, centre, random, paint)


def _affine(random: torch.Generator) -> Double:
    """Rotation, scale along each axis, shear and a left-right mirror: scanner to anatomy, (3, 3)."""
    turns = np.deg2rad(uniform(random, list(TURN_DEGREES)))
    rotation = np.eye(3)
    for axis, angle in enumerate(turns):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        plane = np.eye(3)
        plane[i, i] = plane[j, j] = np.cos(angle)
        plane[i, j], plane[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ plane
    stretch = np.diag(np.exp(uniform(random, [SCALE] * 3)))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = uniform(random, [SHEAR] * 3)
    if float(torch.rand(1, generator=random)) < 0.5:
        stretch[0, 0] *= -1
    return np.asarray(stretch @ shear @ rotation)
