"""``manifest.json``: what a folder of prepared volumes holds and how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mrigen.errors import UsageError
from mrigen.files import write_json
from mrigen.registry import Params, describe

NAME = "manifest.json"
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
    """

    slice: int
    lines: int
    acceleration: float
    scale: float
    mismatch: float
    noise: float | None = None


class Volume(Params):
    """One prepared volume.

    Attributes:
        file: name of its HDF5 file beside the manifest.
        source: name of the file that it was made from, without folders.
        source_sha256: checksum of that file.
        split: name of the part of the data that it belongs to.
        shape: coils, height and width.
        acs_lines: fully sampled lines around DC that all slices share (side of the block for
            two-dimensional masks).
        header: whitelisted acquisition parameters; nothing that identifies a patient.
        slices: statistics per slice, in storage order.
    """

    file: str
    source: str
    source_sha256: str
    split: str
    shape: tuple[int, int, int]
    acs_lines: int
    header: dict[str, Any] = Field(default={})
    slices: list[SliceStatistics]


class Record(Params):
    """What a volume file says about itself, so that a killed run can be continued.

    Attributes:
        schema_version: version of this schema.
        kind: ``measurements`` for training, ``reference`` for evaluation only.
        parameters: all options of the preparation.
        volume: the volume's entry in the manifest.
    """

    schema_version: Literal[1] = 1
    kind: Literal["measurements", "reference"]
    parameters: dict[str, Any]
    volume: Volume


class Manifest(Params):
    """Everything about a store except the arrays.

    Attributes:
        schema_version: version of this schema.
        kind: ``measurements`` for training, ``reference`` for evaluation only.
        created_by: program and version.
        parameters: all options of the preparation.
        mask: the mask law in a recipe's notation, ``name`` and parameters.
        fresh_masks: whether masks may be drawn anew from the law; false for data that were
            undersampled at the scanner.
        clean_data_leak: how fully sampled data entered the store (maps from full k-space), or None.
        volumes: the volumes, sorted by file name.
    """

    schema_version: Literal[1] = 1
    kind: Literal["measurements", "reference"]
    created_by: str
    parameters: dict[str, Any]
    mask: dict[str, Any]
    fresh_masks: bool = True
    clean_data_leak: str | None = None
    volumes: list[Volume]

    def save(self, folder: Path) -> None:
        """Write ``folder/manifest.json`` atomically."""
        write_json(folder / NAME, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read ``folder/manifest.json``.

        Raises:
            UsageError: the folder is no prepared store, or its manifest is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            raise UsageError(f"{folder}: no {NAME} here; give a folder written by mrigen prep-fastmri")
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise UsageError(f"{path}: not valid JSON ({error}); prepare the data again") from error
        except ValidationError as error:
            raise UsageError(f"{path}: {describe(error)}; prepare the data again") from error
