"""A head to acquire: a volume of intensities, sampled at any points without aliasing, or a label map."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.files import sha256
from mrigen.prep.ismrmrd import HEAD
from mrigen.prep.simulate.grids import Grid, uniform
from mrigen.prep.simulate.label_map import LabelMap
from mrigen.prep.simulate.tissues import read_table

BUNDLED = "colin27_t1_1mm.npz"
PRESENT = 0.05
FILLED = 0.4
GAMMA = 1.4
KEPT = 32
ENDINGS = (".npz", ".npy", ".nii", ".nii.gz")
LABELS, VALUES = "labels", "label_values"
MAX_VOXELS = 1 << 28
MAX_LABELS = 255
COUNTED = 1 << 16
SELECTION = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")
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

    @property
    def heights(self) -> tuple[float, float]:
        """Lowest and highest coordinate in mm of the box."""
        low, high = self.box
        return float(low[2]), float(high[2])

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
        from scipy import ndimage

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
        from scipy import ndimage

        index = points.reshape(3, -1) / self.voxel[:, None]
        values = ndimage.map_coordinates(
            self.coefficients, index, order=3, prefilter=False, mode="constant", output=np.float32
        )
        return np.asarray(np.maximum(values, 0).reshape(points.shape[1:]))

    def image(
        self, grid: Grid, affine: Double, centre: Double, rng: torch.Generator, paint: tuple[str, int, int]
    ) -> Float:
        """Magnitude (S, H, W), recoloured by a random power; arguments as those of ``LabelMap.image``."""
        del paint
        gamma = GAMMA ** uniform(rng, [1.0])[0]
        plane = np.einsum("ai,ihw->ahw", affine[:, :2], np.stack(np.meshgrid(grid.x, grid.y)))
        heights = affine[:, 2:] * grid.z + centre[:, None]
        layers = [self.sample(plane + height[:, None, None]) for height in heights.T]
        return np.stack(layers) ** np.float32(gamma)


def choose(paths: Sequence[Path], selection: str | None = None) -> list[Path]:
    """Files of heads: those that are given, and those of folders, by name.

    Args:
        paths: files and folders.
        selection: which of them, counted from 1, such as ``1-14`` or ``1,3,5-8``; None for all.

    Raises:
        UsageError: nothing there, two heads of one name, or a selection of heads that are not there.
    """
    volumes: list[Path] = []
    for path in paths:
        inside = [p for p in sorted(path.iterdir()) if p.name.endswith(ENDINGS)] if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"--anatomy {path}: holds no {', '.join(ENDINGS)} files; give a folder of heads")
        volumes += inside
    if selection is not None:
        volumes = [volumes[number - 1] for number in _selected(selection, len(volumes))]
    names = [name_of(path) for path in volumes]
    for path, name in zip(volumes, names, strict=True):
        if len(volumes) > 1 and HEAD.fullmatch(name) is None:
            raise UsageError(f"--anatomy {path}: name the file in letters, digits, - and _, 48 at most")
        if names.count(name) > 1:
            raise UsageError(f"--anatomy {path}: two heads of the name {name}; rename one")
    return volumes


def name_of(path: Path) -> str:
    """The head's name: that of its file without the ending."""
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name


def _selected(text: str, count: int) -> list[int]:
    if SELECTION.fullmatch(text) is None:
        raise UsageError(f"--heads {text}: write 1-14 or 1,3,5-8")
    numbers: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    if not numbers or min(numbers) < 1 or max(numbers) > count or len(set(numbers)) < len(numbers):
        raise UsageError(f"--heads {text}: choose among the {count} heads, each once, counted from 1")
    return numbers


@lru_cache(maxsize=1)
def bundled() -> Anatomy:
    """Colin27, a real T1 scan."""
    with resources.as_file(resources.files("mrigen.assets") / BUNDLED) as path, np.load(path) as file:
        return _volume(path, file["volume"], file["voxel_mm"].astype(np.float64))


@lru_cache(maxsize=KEPT)
def load(path: Path | None, labels: Path | None = None) -> Anatomy | LabelMap:
    """The bundled head (Colin27, a real T1 scan), or the user's own.

    Args:
        path: ``.npz`` with ``volume`` (x, y, z), or with ``labels`` (x, y, z) of integers and optionally
            ``label_values``, the number that each of them means; both with ``voxel_mm`` (3,) or of 1 mm.
            ``.npy`` with the volume alone, of 1 mm. NIfTI with the numbers of a label map.
        labels: table of numbers that FreeSurfer and CHARM do not know, see ``read_table``.

    Raises:
        UsageError: no such file, not one of these formats, or neither finite intensities nor labels.
    """
    if path is None:
        return bundled()
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file; give --anatomy .npz, .npy or NIfTI files, or a folder of them"
        )
    return _read_nifti(path, labels) if path.name.endswith((".nii", ".nii.gz")) else _read(path, labels)


def digest(path: Path | None, labels: Path | None = None) -> str:
    """What tells one anatomy from another: the bundled file's name or the SHA-256 of the user's files."""
    own = BUNDLED if path is None else sha256(path)
    return own if labels is None else f"{own} {sha256(labels)}"


def _read(path: Path, table: Path | None) -> Anatomy | LabelMap:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"volume": loaded}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: not an .npz or .npy file ({error}); save it with numpy.savez") from error
    voxel = np.asarray(arrays.get("voxel_mm", np.ones(3)))
    if voxel.shape != (3,) or voxel.dtype.kind not in "uif" or not (np.isfinite(voxel) & (voxel > 0)).all():
        raise UsageError(f"{path}: voxel_mm must be three positive sizes in mm")
    if LABELS in arrays:
        return _label_map(path, arrays[LABELS], arrays.get(VALUES), voxel.astype(np.float64), table)
    return _volume(path, arrays.get("volume"), voxel.astype(np.float64))


def _volume(path: Path, volume: NDArray[Any] | None, voxel: Double) -> Anatomy:
    if volume is None or volume.ndim != 3 or min(volume.shape) < 2 or volume.dtype.kind not in "uif":
        raise UsageError(f"{path}: needs a real three-dimensional array `volume` or `labels` (x, y, z)")
    volume = volume.astype(np.float32)
    if not np.isfinite(volume).all() or volume.max() <= 0:
        raise UsageError(f"{path}: `volume` must be finite and must hold something above zero")
    return Anatomy(np.maximum(volume, 0) / volume.max(), voxel)


def _read_nifti(path: Path, table: Path | None) -> LabelMap:
    """Labels of a NIfTI file, turned so that the axes lead to the right, the front and the top."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        if len(image.shape) == 3 and np.prod(image.shape) <= MAX_VOXELS:
            values = np.asanyarray(image.dataobj)
        else:
            raise UsageError(
                f"{path}: has shape {image.shape}; give one volume of at most {MAX_VOXELS:,} voxels"
            )
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise UsageError(f"{path}: not a readable NIfTI file ({error}); copy it again") from error
    voxel = np.asarray(image.header.get_zooms()[:3], np.float64)
    if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise UsageError(
            f"{path}: no label map, for its values are no integers; save a volume as .npz `volume`"
        )
    label_map = _label_map(path, values.astype(np.int64), None, voxel, table)
    if table is None and 2 * len(label_map.unknown) > len(label_map.numbers):
        raise UsageError(
            f"{path}: most of its numbers are no labels of FreeSurfer or CHARM; say with --labels TABLE.json "
            "what they are, or save a volume of intensities as .npz `volume`"
        )
    return label_map


def _label_map(
    path: Path, labels: NDArray[Any], values: NDArray[Any] | None, voxel: Double, table: Path | None
) -> LabelMap:
    if labels.ndim != 3 or min(labels.shape) < 2 or labels.dtype.kind not in "ui":
        raise UsageError(f"{path}: `labels` must be a three-dimensional array of integers (x, y, z)")
    used = _distinct(labels)
    if len(used) > MAX_LABELS:
        raise UsageError(f"{path}: {len(used)} different labels, more than {MAX_LABELS}; is it a label map?")
    numbers = used
    if values is not None:
        if values.ndim != 1 or values.dtype.kind not in "ui" or used[0] < 0 or used[-1] >= len(values):
            raise UsageError(
                f"{path}: label_values must hold an integer for each of `labels`, 0 to {used[-1]}"
            )
        numbers = values[used]
    if len(used) == used[-1] + 1:
        index = labels.astype(np.uint8)
    else:
        index = np.searchsorted(used, labels).astype(np.uint8)
    label_map = LabelMap(index, tuple(numbers.tolist()), voxel, read_table(table))
    if not label_map.filled.any():
        raise UsageError(f"{path}: all labels are air; is it a label map?")
    return label_map


def _distinct(labels: NDArray[Any]) -> NDArray[Any]:
    """Sorted values of an array of integers; counted where they are few, which is faster than sorting."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= COUNTED:
        return np.unique(labels)
    return np.flatnonzero(np.bincount(labels.reshape(-1), minlength=high + 1))
