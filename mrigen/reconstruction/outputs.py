"""Formats that reconstructions are written in: NIfTI, DICOM, BART and BIDS, beside HDF5; pictures as PNG."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mrigen import __version__, hdf5
from mrigen.data.sample_files import Voxel, write_nifti
from mrigen.data.slice_geometry import SliceGeometry
from mrigen.errors import UsageError
from mrigen.files import atomic, write_json
from mrigen.metrics.rendering import pictures
from mrigen.prep.readers.bart import write_cfl

Array = NDArray[Any]
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
GREY_WORDS = "1.2.840.10008.5.1.4.1.1.7.3"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
STACK, POSITION_IN_STACK, FRAME_CONTENT = 0x00209056, 0x00209057, 0x00209111  # tags
BIDS_VERSION = "1.10.0"
SUFFIXES = {"T1": "T1w", "T2": "T2w", "FLAIR": "FLAIR", "PD": "PDw"}
DEFAULT = ("h5", "nifti")


@dataclass(frozen=True, eq=False)
class Volume:
    """A finished reconstruction.

    Attributes:
        path: its HDF5 file.
        name: of the source.
        shape: slices, H and W.
        voxel: size along H, W and the slices in mm, or None.
        geometry: of the slices, or None.
        acquisition: contrast, or None.
        summary: solver, seed, model and samples.
    """

    path: Path
    name: str
    shape: tuple[int, int, int]
    voxel: Voxel | None
    geometry: SliceGeometry | None
    acquisition: str | None
    summary: dict[str, Any]

    def slices(self, part: Callable[[Array], Array], dataset: str = "image") -> Iterator[Array]:
        """A function of the images, slice by slice, (1, H, W)."""
        with hdf5.reader(self.path) as file:
            for row in range(self.shape[0]):
                yield part(file[dataset][row])

    @property
    def affine(self) -> Array | None:
        """Voxel (column, row, slice) to RAS millimetres, or None where nobody says."""
        return None if self.geometry is None else self.geometry.affine(*self.shape[1:])

    def nifti(
        self, path: Path, part: Callable[[Array], Array], dataset: str = "image", description: str = ""
    ) -> None:
        """A NIfTI file of a function of the images."""
        slices = self.slices(part, dataset)
        write_nifti(path, self.shape[0], slices, self.voxel, self.affine, description)


def _angle(image: Array) -> Array:
    return np.asarray(np.angle(image), np.float32)


def write_magnitude(out: Path, volume: Volume) -> None:
    """``magnitude.nii.gz``, and ``std.nii.gz`` where there are posterior samples, with what it is worth."""
    volume.nifti(out / "magnitude.nii.gz", np.abs)
    with hdf5.reader(volume.path) as file:
        several = "std" in file
        note = str(file["std"].attrs.get("note", "")) if several else ""
    if several:
        volume.nifti(out / "std.nii.gz", np.asarray, "std", note)


def write_phase(out: Path, volume: Volume) -> None:
    """``phase.nii.gz`` in radians."""
    volume.nifti(out / "phase.nii.gz", _angle)


def write_complex(out: Path, volume: Volume) -> None:
    """``complex.nii.gz`` of complex64."""
    volume.nifti(out / "complex.nii.gz", np.asarray)


def write_bart(out: Path, volume: Volume) -> None:
    """``image.cfl`` and ``.hdr``: READ is H, PHS1 is W, SLICE counts the slices."""
    images = np.concatenate(list(volume.slices(np.asarray)))
    slices, height, width = volume.shape
    write_cfl(out / "image.cfl", images.transpose(1, 2, 0).reshape(height, width, *[1] * 11, slices))


def write_bids(out: Path, volume: Volume) -> None:
    """A derivative data set of BIDS: magnitude and phase with sidecars, without any identifier of the source.

    The subject is called ``sub-01``: the names of raw files may name a patient.
    """
    root = out / "bids"
    label = re.sub(r"[^a-zA-Z0-9]", "", str(volume.summary["solver"]).split(":")[0])
    contrast = next((s for n, s in SUFFIXES.items() if n in (volume.acquisition or "").upper()), "MRI")
    software = {"Name": "mrigen", "Version": __version__}
    write_json(
        root / "dataset_description.json",
        {
            "Name": "mrigen reconstruction",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [software],
        },
    )
    folder = root / "sub-01" / "anat"
    sidecar = {
        "Description": "reconstructed from undersampled k-space, not for diagnosis",
        "Solver": volume.summary["solver"],
        "Seed": volume.summary["seed"],
        "Samples": volume.summary["samples"],
        "ModelSHA256": volume.summary["model"] or None,
        "SoftwareVersions": _versions(),
        "SpatialReference": "scanner" if volume.affine is not None else "unknown",
    }
    for part, function, units in (("mag", np.abs, "arbitrary"), ("phase", _angle, "rad")):
        stem = f"sub-01_rec-{label}_part-{part}_{contrast}"
        volume.nifti(folder / f"{stem}.nii.gz", function)
        write_json(folder / f"{stem}.json", {**sidecar, "Units": units})


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"mrigen": __version__, **{name: version(name) for name in ("torch", "numpy", "nibabel")}}


def write_dicom(out: Path, volume: Volume) -> None:
    """``image.dcm`` of 16-bit magnitudes: enhanced MR where positions are known, else secondary capture.

    Values are rescaled: the real-world value is the slope times the stored one. UIDs are new, and nothing
    identifies the patient.

    Raises:
        UsageError: pydicom is missing.
    """
    try:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import generate_uid
    except ImportError as error:
        raise UsageError("--format dicom: needs pydicom: pip install 'mrigen[dicom]'") from error
    count, height, width = volume.shape
    peak = max(float(image.max()) for image in volume.slices(np.abs)) or 1.0
    slope = peak / 65535
    placed = volume.geometry is not None
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = ENHANCED_MR if placed else GREY_WORDS
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid(prefix=None)
    data.file_meta.TransferSyntaxUID = EXPLICIT_LITTLE
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (
        generate_uid(prefix=None) for _ in range(3)
    )
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        setattr(data, name, "")
    for name in ("AccessionNumber", "ReferringPhysicianName", "StudyID", "PositionReferenceIndicator"):
        setattr(data, name, "")
    data.Modality, data.ConversionType = "MR" if placed else "OT", "WSD"
    data.Manufacturer, data.ManufacturerModelName, data.SoftwareVersions = "mrigen", "mrigen", __version__
    data.DeviceSerialNumber = "0"
    data.ImageType = ["DERIVED", "PRIMARY", "OTHER", "NONE"]
    data.SeriesNumber = data.InstanceNumber = 1
    data.SeriesDescription = "reconstruction, not for diagnosis"
    data.DerivationDescription = f"mrigen {__version__}, solver {volume.summary['solver']}"[:1024]
    data.ContentDate, data.ContentTime = "19000101", "000000"
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    data.PatientIdentityRemoved, data.DeidentificationMethod = "YES", "nothing was copied from the source"
    data.NumberOfFrames, data.Rows, data.Columns = count, height, width
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PresentationLUTShape = "IDENTITY"
    if placed:
        _multi_frame(data, volume, slope)
    else:
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", f"{slope:.10g}", "US"
        if volume.voxel is not None:
            data.PixelSpacing = [f"{volume.voxel[0]:.8g}", f"{volume.voxel[1]:.8g}"]
    words = (np.round(image / slope).astype("<u2").tobytes() for image in volume.slices(np.abs))
    data.PixelData = b"".join(words)
    with atomic(out / "image.dcm") as temporary:
        data.save_as(temporary, enforce_file_format=True)


def _multi_frame(data: Any, volume: Volume, slope: float) -> None:
    """Functional groups of enhanced MR: position, orientation, spacing and values of every frame."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    geometry = volume.geometry
    assert geometry is not None
    _, height, width = volume.shape
    shared = Dataset()
    plane, pixels, values, kind = (Dataset() for _ in range(4))
    # DICOM's first direction is that of the columns' number, its second that of the rows'
    plane.ImageOrientationPatient = [f"{v:.10g}" for v in (*geometry.columns, *geometry.rows)]
    pixels.PixelSpacing = [f"{v:.10g}" for v in geometry.spacing]
    step = geometry.step
    if geometry.thickness is not None:
        pixels.SliceThickness = f"{geometry.thickness:.10g}"
    if step is not None:
        pixels.SpacingBetweenSlices = f"{np.linalg.norm(step):.10g}"
    values.RescaleIntercept, values.RescaleSlope, values.RescaleType = "0", f"{slope:.10g}", "US"
    kind.FrameType = ["DERIVED", "PRIMARY", "OTHER", "NONE"]
    kind.PixelPresentation, kind.VolumetricProperties = "MONOCHROME", "VOLUME"
    kind.VolumeBasedCalculationTechnique = "NONE"
    kind.ComplexImageComponent, kind.AcquisitionContrast = "MAGNITUDE", "UNKNOWN"
    data.PixelPresentation, data.VolumetricProperties = "MONOCHROME", "VOLUME"
    data.VolumeBasedCalculationTechnique = "NONE"
    data.ComplexImageComponent, data.AcquisitionContrast = "MAGNITUDE", "UNKNOWN"
    shared.PlaneOrientationSequence = Sequence([plane])
    shared.PixelMeasuresSequence = Sequence([pixels])
    shared.PixelValueTransformationSequence = Sequence([values])
    shared.MRImageFrameTypeSequence = Sequence([kind])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    organisation = Dataset()
    organisation.DimensionOrganizationUID = data.FrameOfReferenceUID + ".1"
    indices = []
    for pointer in (STACK, POSITION_IN_STACK):
        index = Dataset()
        index.DimensionOrganizationUID = organisation.DimensionOrganizationUID
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, FRAME_CONTENT
        indices.append(index)
    data.DimensionOrganizationSequence = Sequence([organisation])
    data.DimensionIndexSequence = Sequence(indices)
    along_h, along_w = (
        s * np.asarray(v) for s, v in zip(geometry.spacing, (geometry.rows, geometry.columns), strict=True)
    )
    frames = []
    for number, centre in enumerate(geometry.centres, 1):
        place, content, frame = Dataset(), Dataset(), Dataset()
        corner = np.asarray(centre) - (height // 2) * along_h - (width // 2) * along_w
        place.ImagePositionPatient = [f"{v:.10g}" for v in corner]
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = (
            "1",
            number,
            [1, number],
        )
        frame.PlanePositionSequence, frame.FrameContentSequence = Sequence([place]), Sequence([content])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)


FORMATS: dict[str, Callable[[Path, Volume], None]] = {
    "nifti": write_magnitude,
    "nifti-phase": write_phase,
    "nifti-complex": write_complex,
    "dicom": write_dicom,
    "cfl": write_bart,
    "bids": write_bids,
}


def parse_formats(text: str) -> tuple[str, ...]:
    """Names of formats from ``nifti,dicom``.

    Raises:
        UsageError: none, or one that is not written; a package is missing.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in FORMATS and name != "h5"]
    if unknown or not names:
        raise UsageError(f"--format {text}: choose from h5, {', '.join(FORMATS)}")
    if "dicom" in names:
        import importlib.util

        if importlib.util.find_spec("pydicom") is None:
            raise UsageError("--format dicom: needs pydicom: pip install 'mrigen[dicom]'")
    return names


def write_formats(out: Path, names: tuple[str, ...], volume: Volume) -> None:
    """Write a reconstruction in further formats; the HDF5 file goes where it is not among them."""
    for name in names:
        if name in FORMATS:
            FORMATS[name](out, volume)
    if "h5" not in names:
        volume.path.unlink()


def write_pictures(out: Path, labels: Sequence[str]) -> None:
    """Restored pictures at their own size, ``pictures/NAME.png``, as 8-bit RGB.

    Args:
        out: folder of the reconstruction.
        labels: file names of the pictures, in their order.
    """
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    stems = [Path(label).stem for label in labels]
    names = stems if len({*stems}) == len(stems) else labels
    with hdf5.reader(out / "reconstruction.h5") as file:
        for row, name in enumerate(names):
            pixels = pictures(torch.from_numpy(file["image"][row : row + 1]))[0].permute(1, 2, 0).numpy()
            with atomic(folder / f"{name}.png") as temporary:
                Image.fromarray(pixels).save(temporary, format="PNG")


def dataset_shape(path: Path) -> tuple[int, int, int]:
    """Slices, H and W of a reconstruction's file."""
    with hdf5.reader(path) as file:
        dataset: h5py.Dataset = file["image"]
        return int(dataset.shape[0]), int(dataset.shape[-2]), int(dataset.shape[-1])
