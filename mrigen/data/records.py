"""What a data file says about itself, so that a killed preparation can be continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import h5py
import numpy as np

from mrigen import hdf5
from mrigen.registry import Params

DATASET = "record"


class Record(Params):
    """How a data file was made.

    Attributes:
        schema_version: version of this schema.
        kind: ``measurements`` for training, ``reference`` for evaluation only.
        parameters: all options of the preparation.
    """

    schema_version: Literal[1] = 1
    kind: Literal["measurements", "reference"]
    parameters: dict[str, Any]


R = TypeVar("R", bound=Record)


def write_record(file: h5py.File, record: Record) -> None:
    """Put a record into a file, as JSON."""
    file[DATASET] = np.bytes_(record.model_dump_json().encode())


def read_record(path: Path, kind: type[R]) -> R | None:
    """How a file was made; None where it does not say, because something else wrote it."""
    try:
        with hdf5.reader(path) as file:
            return kind.model_validate_json(bytes(file[DATASET][()]))
    except (OSError, KeyError, TypeError, ValueError):
        return None
