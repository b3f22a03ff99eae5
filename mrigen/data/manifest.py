"""``manifest.json``: what a folder of prepared data holds and how it was made."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

import h5py
import numpy as np
from pydantic import Field, ValidationError

from mrigen import hdf5
from mrigen.errors import UsageError
from mrigen.files import sha256, write_json
from mrigen.registry import Params, describe

NAME = "manifest.json"
OTHERS = {
    "measurements": "holds reference images for evaluation; give the measurement store",
    "reference": "holds measurements, not references; give the folder OUT-reference",
}
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$")]
"""Name of a file beside the manifest, never a path that leads elsewhere."""
DATASET = "record"


class Manifest(Params):
    """Everything about a store except the arrays; what all kinds of data share.

    Attributes:
        schema_version: version of this schema.
        data: kind of the data, ``mri`` or ``images``.
        kind: ``measurements`` for training, ``reference`` for evaluation only.
        created_by: program and version.
        parameters: all options of the preparation.
        checksums: SHA-256 of each data file, as it was when the manifest was written.
    """

    written_by: ClassVar[str] = "mrigen prep-fastmri or prep-images"

    schema_version: Literal[1] = 1
    data: str
    kind: Literal["measurements", "reference"]
    created_by: str
    parameters: dict[str, Any]
    checksums: dict[str, str] = {}

    @property
    @abstractmethod
    def files(self) -> list[str]:
        """Names of the data files beside the manifest."""

    def save(self, folder: Path) -> None:
        """Write ``folder/manifest.json`` atomically, with the checksums of the data files there.

        A file that is as an earlier manifest found it keeps its checksum and is not read again.

        Raises:
            UsageError: there is an earlier manifest that cannot be read or is of other data.
        """
        known = self._unchanged(folder)
        others = [name for name in self.files if name not in known]
        digests = known | dict(zip(others, _digests(folder, others), strict=True))
        whole = self.model_copy(update={"checksums": {name: digests[name] for name in self.files}})
        write_json(folder / NAME, whole.model_dump(mode="json"))

    def _unchanged(self, folder: Path) -> dict[str, str]:
        """Checksums in an earlier manifest of the files that nobody has touched since.

        The time of the inode's last change tells, which no program can set back: not the modification
        time, which copying tools restore.
        """
        earlier = folder / NAME
        if not earlier.is_file():
            return {}
        written = earlier.stat().st_ctime_ns
        checksums = self.load(folder).checksums
        return {
            name: checksums[name]
            for name in self.files
            if name in checksums and (folder / name).stat().st_ctime_ns < written
        }

    def faults(self, folder: Path) -> list[str]:
        """What is wrong with the data files in ``folder``, one line each; empty where all are as written."""
        there = [name for name in self.files if (folder / name).is_file()]
        digests = dict(zip(there, _digests(folder, there), strict=True))
        faults = []
        for name in self.files:
            if name not in digests:
                faults.append(f"{folder / name}: missing although the manifest lists it")
            elif name not in self.checksums:
                faults.append(f"{folder / name}: prepared without a checksum")
            elif digests[name] != self.checksums[name]:
                faults.append(f"{folder / name}: not what was written (checksum)")
        return faults

    def require(self, kind: Literal["measurements", "reference"], folder: Path) -> None:
        """Refuse references where measurements are wanted, and the other way round.

        Raises:
            UsageError: the folder holds the others.
        """
        if self.kind != kind:
            raise UsageError(f"{folder}: {OTHERS[kind]}")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``folder/manifest.json``.

        Raises:
            UsageError: the folder is no prepared store, holds another kind of data, or its manifest
                is damaged.
        """
        tree = _tree(folder)
        expected = cls.model_fields["data"].default
        if tree.get("data", "mri") != expected:
            raise UsageError(f"{folder}: holds no {expected} data; give a folder written by {cls.written_by}")
        try:
            return cls(**tree)
        except (ValidationError, TypeError) as error:
            reason = describe(error) if isinstance(error, ValidationError) else str(error)
            raise UsageError(f"{folder / NAME}: {reason}; prepare the data again") from error


class Part(Protocol):
    """One of a store's files as the manifest lists it: a volume or a shard."""

    @property
    def split(self) -> str:
        """The part of the data that it belongs to."""
        ...


P = TypeVar("P", bound=Part)


def in_split(folder: Path, files: Sequence[P], split: str | None) -> list[P]:
    """The files of one part of the data, or all of them where ``split`` is None.

    Raises:
        UsageError: there are none.
    """
    chosen = [file for file in files if split is None or file.split == split]
    if not chosen:
        have = ", ".join(sorted({file.split for file in files})) or "none"
        raise UsageError(f"{folder}: nothing in split {split!r} (there are: {have})")
    return chosen


def data_kind(folder: Path) -> str:
    """``mri`` or ``images``, as the manifest of a folder says.

    Raises:
        UsageError: the folder is no prepared store.
    """
    return str(_tree(folder).get("data", "mri"))


def _digests(folder: Path, names: list[str]) -> list[str]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda name: sha256(folder / name), names))


def _tree(folder: Path) -> dict[str, Any]:
    path = folder / NAME
    if not path.is_file():
        raise UsageError(f"{folder}: no {NAME} here; give a folder written by {Manifest.written_by}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON ({error}); prepare the data again") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: not valid JSON (no mapping); prepare the data again")
    return tree


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
