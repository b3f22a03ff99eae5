"""The manifest of an MRI store: volumes and their slices."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from mrigen.data.manifest import FileName, Manifest, Record
from mrigen.registry import Params

REFERENCE = "image"  # dataset of a reference volume: complex64 (slices, H, W)


class SliceStatistics(Params):
    """What was measured of one slice.

    Attributes:
        slice: index in the source volume.
        lines: measured phase-encode lines (points for two-dimensional masks).
        acceleration: acquired lines (points) per measured one.
        scale: the k-space was divided by this.
        mismatch: ‖k − M F S x‖ / ‖k‖ on the measured points, with x = argmin over images of that
            norm (a few conjugate-gradient steps): how far the data deviate from the model.
        noise: standard deviation of the noise per real component after scaling, None if unknown.
        noise_share: expected ‖noise‖ / ‖k‖ on the measured points, None if unknown: mismatch beyond it is
            not noise.
    """

    slice: int
    lines: int
    acceleration: float
    scale: float
    mismatch: float
    noise: float | None = None
    noise_share: float | None = None


class Volume(Params):
    """One prepared volume.

    Attributes:
        file: name of its HDF5 file beside the manifest.
        source: name of the file that it was made from, without folders.
        source_sha256: checksum of that file.
        split: name of the part of the data that it belongs to.
        head: name of the simulated head, where there were several; a head's volumes are all in one part.
        shape: coils, height and width.
        acs_lines: fully sampled lines around DC that all slices share (side of the block for
            two-dimensional masks).
        header: whitelisted acquisition parameters; nothing that identifies a patient.
        slices: statistics per slice, in storage order.
    """

    file: FileName
    source: str
    source_sha256: str
    split: str
    head: str | None = None
    shape: tuple[int, int, int]
    acs_lines: int
    header: dict[str, Any] = Field(default={})
    slices: list[SliceStatistics]


class VolumeRecord(Record):
    """The record of a volume file.

    Attributes:
        volume: the volume's entry in the manifest.
    """

    volume: Volume


class MRIManifest(Manifest):
    """Everything about a store of k-space except the arrays.

    Attributes:
        mask: the mask distribution in a recipe's notation, ``name`` and parameters.
        fresh_masks: whether masks may be drawn anew from the law; false for data that were
            undersampled at the scanner.
        phase: what the phase of images is relative to, ``coil`` or ``acs`` (see ``mrigen prep-fastmri``).
        clean_data_leak: how fully sampled data entered the store (maps from full k-space), or None.
        volumes: the volumes, sorted by file name.
    """

    written_by: ClassVar[str] = "mrigen prep-fastmri"

    data: Literal["mri"] = "mri"
    mask: dict[str, Any]
    fresh_masks: bool = True
    phase: Literal["coil", "acs"] = "coil"
    clean_data_leak: str | None = None
    volumes: list[Volume]

    @property
    def files(self) -> list[str]:
        """Names of the volumes' files."""
        return [volume.file for volume in self.volumes]
