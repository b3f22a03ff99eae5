"""A head to acquire: a volume of intensities, sampled at any points without aliasing."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrigen.errors import UsageError
from mrigen.files import sha256

BUNDLED = "colin27_t1_1mm.npz"
PRESENT = 0.05
FILLED = 0.4
Float = NDArray[np.float32]
Double = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Intensities in [0, 1] on a grid: axis 0 left to right, 1 posterior to anterior, 2 inferior to superior.

    Attributes:
        volume: intensities (x, y, z).
        voxel: voxel size in mm.
    """

    volume: Float
    voxel: Double

    @cached_property
    def box(self) -> tuple[Double, Double]:
        """Smallest and largest coordinates in mm of what exceeds 5 % of the maximum."""
        present = np.argwhere(self.volume > PRESENT)
        return present.min(0) * self.voxel, present.max(0) * self.voxel

    @cached_property
    def filled_slices(self) -> tuple[float, float]:
        """Heights in mm between which axial slices fill at least 40 % of the area of the fullest one."""
        area = (self.volume > PRESENT).sum((0, 1))
        filled = np.flatnonzero(area >= FILLED * area.max()) * self.voxel[2]
        return float(filled[0]), float(filled[-1])

    def blurred(self, resolution: tuple[float, float, float]) -> Splines:
        """Prepare for sampling with pixels of ``resolution`` mm along x, y and z.

        A Gaussian of 0.4 pixels' standard deviation (full width at half maximum 0.94) stands for
        the pixel's area and keeps what the coarser grid cannot show from folding back.
        """
        sigma = 0.4 * np.asarray(resolution) / self.voxel
        smooth = ndimage.gaussian_filter(self.volume, sigma, mode="constant")
        return Splines(ndimage.spline_filter(smooth, 3, output=np.float32), self.voxel)


@dataclass(frozen=True, eq=False)
class Splines:
    """Cubic B-spline coefficients of a blurred anatomy."""

    coefficients: Float
    voxel: Double

    def sample(self, points: Double) -> Float:
        """Intensities at ``points`` (3, ...) in mm, zero outside, never negative."""
        index = points.reshape(3, -1) / self.voxel[:, None]
        found = ndimage.map_coordinates(
            self.coefficients, index, order=3, prefilter=False, mode="constant", output=np.float32
        )
        return np.asarray(np.maximum(found, 0).reshape(points.shape[1:]))


@lru_cache(maxsize=1)
def load(path: Path | None) -> Anatomy:
    """The bundled head (Colin27, a real T1 scan), or the user's own.

    Args:
        path: ``.npz`` with ``volume`` (x, y, z) and optionally ``voxel_mm`` (3,), or ``.npy`` with the
            volume alone, which then has voxels of 1 mm. The largest intensity becomes 1.

    Raises:
        UsageError: no such file, not one of these formats, or not a volume of finite intensities.
    """
    if path is None:
        with resources.as_file(resources.files("mrigen.assets") / BUNDLED) as bundled:
            return _read(bundled)
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give --anatomy an .npz or .npy volume")
    return _read(path)


def digest(path: Path | None) -> str:
    """What tells one anatomy from another: the bundled file's name or the SHA-256 of the user's."""
    return BUNDLED if path is None else sha256(path)


def _read(path: Path) -> Anatomy:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"volume": loaded}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: not an .npz or .npy file ({error}); save it with numpy.savez") from error
    volume, voxel = arrays.get("volume"), np.asarray(arrays.get("voxel_mm", np.ones(3)), np.float64)
    if volume is None or volume.ndim != 3 or min(volume.shape) < 2 or volume.dtype.kind not in "uif":
        raise UsageError(f"{path}: needs a real three-dimensional array `volume` (x, y, z)")
    if voxel.shape != (3,) or not (np.isfinite(voxel).all() and (voxel > 0).all()):
        raise UsageError(f"{path}: voxel_mm must be three positive sizes in mm")
    volume = volume.astype(np.float32)
    if not np.isfinite(volume).all() or volume.max() <= 0:
        raise UsageError(f"{path}: `volume` must be finite and must hold something above zero")
    return Anatomy(np.maximum(volume, 0) / volume.max(), voxel)
