"""Magnitude images of DICOM, NIfTI and BIDS as sets of images, a slice each."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mrigen.data.pixels import ImageError, Picture, is_image
from mrigen.errors import UsageError
from mrigen.prep.images.base import ImageSet, Item
from mrigen.prep.readers import signatures

WARNING = (
    "these are processed magnitude images: scanners filter and interpolate them, and models trained on them "
    "look better than they are (implicit data crimes, Shimron et al., PNAS 2022); raw k-space tells the truth"
)
NIFTI_SUFFIXES = (".nii", ".nii.gz")
PEAK_QUANTILE = 0.999
MOST_VOXELS = 1 << 31
Array = NDArray[np.float32]


@dataclass(frozen=True)
class ImageVolume(ABC):
    """Slices that belong together.

    Attributes:
        path: a file, or for DICOM the first of them.
        name: unique among the volumes of a folder.
    """

    format: ClassVar[str]

    path: Path
    name: str

    @property
    def count(self) -> int:
        """Number of files."""
        return 1

    @abstractmethod
    def values(self) -> Array:
        """Magnitudes (slices, H, W), rows from top to bottom as a viewer shows them.

        Raises:
            UsageError: it cannot be read.
        """

    @property
    @abstractmethod
    def orientation(self) -> str:
        """Words for the plane and the directions of the axes."""

    @property
    @abstractmethod
    def voxel(self) -> tuple[float, float, float] | None:
        """Size along H, W and the slices in mm, or None."""


@dataclass(frozen=True)
class NiftiVolume(ImageVolume):
    """A NIfTI file; of four axes the first volume, of complex numbers the magnitude."""

    format = "NIfTI"

    def _image(self) -> Any:
        import nibabel

        try:
            image = nibabel.load(self.path)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{self.path}: not a readable NIfTI file ({reason}); copy it again") from error
        if len(image.shape) < 2 or int(np.prod(image.shape, dtype=object)) > MOST_VOXELS:
            raise UsageError(f"{self.path}: has shape {image.shape}; give a volume")
        return image

    def values(self) -> Array:
        """Slices along the third axis, the second axis upwards and the first to the right as viewers draw."""
        try:
            data = np.asarray(self._image().dataobj)
        except (OSError, ValueError, EOFError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{self.path}: damaged ({reason}); copy it again") from error
        if data.dtype.kind not in "biufc":
            raise UsageError(f"{self.path}: is in colour, no magnitude image; leave it out")
        data = np.abs(data) if np.iscomplexobj(data) else data
        data = data.reshape(*data.shape[:2], -1)[..., : data.shape[2] if data.ndim > 2 else 1]
        return np.ascontiguousarray(data.transpose(2, 1, 0)[:, ::-1], np.float32)

    @property
    def orientation(self) -> str:
        """By nibabel's axis codes."""
        import nibabel

        image = self._image()
        if int(image.header.get("qform_code", 1)) == 0 and int(image.header.get("sform_code", 1)) == 0:
            return "unknown: the file does not say where the patient lay"
        return "axes run to " + ", ".join(str(c) for c in nibabel.aff2axcodes(image.affine))

    @property
    def voxel(self) -> tuple[float, float, float] | None:
        """By the header's zooms."""
        zooms = [float(z) for z in self._image().header.get_zooms()[:3]] + [1.0]
        return zooms[1], zooms[0], zooms[2]


@dataclass(frozen=True)
class DicomVolume(ImageVolume):
    """A series of DICOM files sorted along the normal of their slices, or one file of many frames.

    Attributes:
        files: of the series, in order.
    """

    format = "DICOM"

    files: tuple[Path, ...] = ()

    @property
    def count(self) -> int:
        """Number of files of the series."""
        return len(self.files)

    def values(self) -> Array:
        """Stored values times slope plus intercept."""
        parts = []
        for path in self.files:
            data = read_dicom(path, pixels=True)
            try:
                pixels = np.asarray(data.pixel_array, np.float32)
            except Exception as error:
                reason = " ".join(str(error).split())
                raise UsageError(
                    f"{path}: its pixels cannot be decoded ({reason}); decompress it with gdcmconv"
                ) from error
            if int(getattr(data, "SamplesPerPixel", 1)) != 1:
                raise UsageError(f"{path}: is in colour, no magnitude image; leave it out")
            slope, intercept = _rescale(data)
            parts.append(pixels.reshape(-1, *pixels.shape[-2:]) * slope + intercept)
        if len({part.shape[1:] for part in parts}) > 1:
            raise UsageError(f"{self.path.parent}: a series of slices of different sizes; take it apart")
        return np.concatenate(parts).astype(np.float32)

    @property
    def orientation(self) -> str:
        """By ImageOrientationPatient."""
        data = read_dicom(self.path, pixels=False)
        cosines = _directions(data)
        if cosines is None:
            return "unknown: the file does not say where the patient lay"
        columns, rows = cosines
        plane = ("sagittal", "coronal", "axial")[int(np.abs(np.cross(columns, rows)).argmax())]
        letters = [
            ("LPS" if v[a] > 0 else "RAI")[a] for v in (columns, rows) for a in [int(np.abs(v).argmax())]
        ]
        return f"{plane}; columns and rows run to {', '.join(letters)}"

    @property
    def voxel(self) -> tuple[float, float, float] | None:
        """By PixelSpacing and the distance of the slices."""
        data = read_dicom(self.path, pixels=False)
        spacing = _find(data, "PixelMeasuresSequence", "PixelSpacing")
        if spacing is None:
            return None
        apart = _find(data, "PixelMeasuresSequence", "SpacingBetweenSlices")
        thick = _find(data, "PixelMeasuresSequence", "SliceThickness")
        return float(spacing[0]), float(spacing[1]), float(apart or thick or 1.0)


def read_dicom(path: Path, *, pixels: bool) -> Any:
    """A DICOM data set.

    Raises:
        UsageError: pydicom is missing, or the file is damaged.
    """
    try:
        import pydicom
    except ImportError as error:
        raise UsageError(f"{path}: is DICOM, which pydicom reads: pip install 'mrigen[dicom]'") from error
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path}: not a readable DICOM file ({reason}); export it again") from error


def _find(data: Any, sequence: str, name: str) -> Any:
    """An attribute of the data set, or of the functional group of all its frames or of the first."""
    value = getattr(data, name, None)
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(getattr(data, groups, []))[:1]:
            for item in list(getattr(group, sequence, []))[:1]:
                value = getattr(item, name, None) if value is None else value
    return value


def _rescale(data: Any) -> tuple[float, float]:
    slope = _find(data, "PixelValueTransformationSequence", "RescaleSlope")
    intercept = _find(data, "PixelValueTransformationSequence", "RescaleIntercept")
    return float(slope if slope is not None else 1), float(intercept if intercept is not None else 0)


def _directions(data: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    element = _find(data, "PlaneOrientationSequence", "ImageOrientationPatient")
    if element is None or len(element) != 6:
        return None
    values = np.asarray([float(v) for v in element])
    return values[:3], values[3:]


def looks_like(path: Path) -> bool:
    """Whether a file or folder holds NIfTI or DICOM images."""
    if path.is_dir():
        return any(_is_volume(p) for p in _files(path))
    return _is_volume(path)


def _is_volume(path: Path) -> bool:
    if is_image(path.name):
        return False
    return path.name.lower().endswith(NIFTI_SUFFIXES) or signatures.kind(path) in {"DICOM", "NIfTI"}


def _files(folder: Path) -> list[Path]:
    hidden = re.compile(r"(^|/)\.|__MACOSX")
    inside = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return [p for p in inside if not hidden.search(p.relative_to(folder).as_posix())]


def open_volumes(path: Path) -> list[ImageVolume]:
    """The volumes of a file or folder, by name.

    Of a BIDS data set the magnitude images of ``anat`` are taken: no ``part-phase``, ``part-real`` or
    ``part-imag``, and no masks or segmentations.

    Raises:
        UsageError: there are none.
    """
    files = _files(path) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    bids = (root / "dataset_description.json").is_file()
    volumes: list[ImageVolume] = []
    series: dict[str, list[Path]] = {}
    for file in files:
        name = file.relative_to(root).as_posix()
        if file.name.lower().endswith(NIFTI_SUFFIXES) or signatures.kind(file) == "NIfTI":
            if not bids or _is_anatomy(name):
                volumes.append(NiftiVolume(file, re.sub(r"\.nii(\.gz)?$", "", name)))
        elif signatures.kind(file) == "DICOM":
            data = read_dicom(file, pixels=False)
            if "Rows" in data:
                series.setdefault(str(getattr(data, "SeriesInstanceUID", file.parent)), []).append(file)
    for number, (_, parts) in enumerate(sorted(series.items(), key=lambda one: one[1][0])):
        volumes.append(_series(parts, root, number))
    if not volumes:
        raise UsageError(f"{path}: holds no magnitude images of DICOM or NIfTI; give another folder")
    return volumes


def _is_anatomy(name: str) -> bool:
    words = re.split(r"[_/.]", name)
    other = {"part-phase", "part-real", "part-imag", "mask", "dseg", "probseg", "derivatives", "sourcedata"}
    return "anat" in words and not other & set(words)


def _series(files: list[Path], root: Path, number: int) -> DicomVolume:
    """Files sorted along the normal, or by instance number where they have no position."""

    def place(path: Path) -> tuple[float, int]:
        data = read_dicom(path, pixels=False)
        cosines, where = _directions(data), getattr(data, "ImagePositionPatient", None)
        instance = int(getattr(data, "InstanceNumber", 0) or 0)
        if cosines is None or where is None:
            return 0.0, instance
        return float(np.cross(*cosines) @ np.asarray([float(v) for v in where])), instance

    ordered = sorted(files, key=place) if len(files) > 1 else files
    name = ordered[0].parent.relative_to(root).as_posix()
    return DicomVolume(
        ordered[0], f"{name}/series{number:03d}" if name != "." else f"series{number:03d}", tuple(ordered)
    )


@dataclass(frozen=True, eq=False)
class VolumeSet(ImageSet):
    """Slices of magnitude volumes; white is the 99.9th percentile of each volume.

    Attributes:
        volumes: by name.
    """

    kind: ClassVar[str] = "volumes"
    note: ClassVar[str] = WARNING

    volumes: tuple[ImageVolume, ...] = ()

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> VolumeSet:
        """All slices of all volumes.

        Raises:
            UsageError: there are none, or labels are wanted.
        """
        if labels:
            raise UsageError(f"{source}: DICOM and NIfTI have no class labels; leave out --labels")
        volumes = open_volumes(source)
        items = []
        for number, volume in enumerate(volumes):
            if (_values(volume)[0] < 0).any():
                warnings.warn(f"{volume.path}: has negative values, which become black", stacklevel=2)
            items += [
                Item(f"{volume.name}/{s:04d}", place=f"{number}:{s}") for s in range(len(_values(volume)[0]))
            ]
        others = len(_files(source)) - sum(volume.count for volume in volumes) if source.is_dir() else 0
        return cls(source, sorted(items, key=lambda item: item.name), others, volumes=tuple(volumes))

    def select(self, positions: Sequence[int]) -> Self:
        """The set of some of the slices."""
        return replace(self, items=[self.items[i] for i in positions])

    def raw(self, position: int) -> bytes:
        """The values, row by row."""
        content: bytes = self._slice(position)[0].tobytes()
        return content

    def picture(self, position: int) -> Picture:
        """The values of a slice."""
        values, peak = self._slice(position)
        return Picture.of(np.clip(values, 0, peak), peak)

    def _slice(self, position: int) -> tuple[Array, float]:
        number, row = map(int, self.items[position].place.split(":"))
        try:
            values, peak = _values(self.volumes[number])
        except UsageError as error:
            raise ImageError(str(error)) from error
        if not np.isfinite(values[row]).all():
            raise ImageError("holds NaN or infinity")
        if peak <= 0:
            raise ImageError("belongs to a volume without any signal")
        return values[row], peak


@lru_cache(maxsize=2)
def _values(volume: ImageVolume) -> tuple[Array, float]:
    """A volume and the value of white."""
    values = volume.values()
    finite = values[np.isfinite(values)]
    return values, float(np.quantile(finite, PEAK_QUANTILE)) if len(finite) else 0.0
