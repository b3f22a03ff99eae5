"""Read fastMRI HDF5 files of strangers: what they declare is checked before anything is allocated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen import hdf5
from mrigen.data.slice_geometry import SliceGeometry
from mrigen.errors import UsageError
from mrigen.prep import ismrmrd

MAX_SLICE_BYTES = 1 << 30
MAX_COMPRESSION = 4096
ACQUISITION = re.compile(r"[A-Za-z0-9_]{1,32}")
Mask = NDArray[np.bool_]
ReadSlices = Callable[[list[int]], Tensor]


@dataclass(frozen=True, eq=False)
class Scan:
    """What a fastMRI file declares; nothing of it identifies a patient.

    Attributes:
        path: the file.
        slices: number of slices.
        coils: number of coils, 1 for fastMRI's single-coil layout.
        height: readout samples, H.
        width: phase-encode lines, W.
        header: acquisition parameters.
        mask: sampled lines (W,) or points (H, W) of data that were undersampled at the scanner,
            DC in the centre; None for fully sampled data.
        acquisition: contrast, for example ``AXT2``.
        head: name of a simulated head of several.
        geometry: where the slices lie in the patient, or None where the file does not say.
        noise: samples of a noise scan (coils, n) of the data's bandwidth and gain, or None.
        choices: length of every further axis of the file, of which one number was chosen.
        notes: what a user should know about this file, one line each.
    """

    path: Path
    slices: int
    coils: int
    height: int
    width: int
    header: ismrmrd.Header = field(default_factory=ismrmrd.Header)
    mask: Mask | None = None
    acquisition: str | None = None
    head: str | None = None
    geometry: SliceGeometry | None = None
    noise: NDArray[np.complex64] | None = None
    choices: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def slice_bytes(self) -> int:
        """Bytes of one slice of k-space in complex64."""
        return 8 * self.coils * self.height * self.width

    @property
    def subject(self) -> str:
        """What belongs to one part of the data only: the head, or the file where no head is named."""
        return self.head or self.path.stem

    def whitelist(self) -> dict[str, object]:
        """What may be copied into a store."""
        contrast = {} if self.acquisition is None else {"acquisition": self.acquisition}
        place = {} if self.geometry is None else {"geometry": self.geometry.model_dump(mode="json")}
        return {**contrast, **self.header.whitelist(), **place}


def inspect(path: Path) -> Scan:
    """Read a file's declarations, not its k-space.

    Raises:
        UsageError: not HDF5, no usable k-space, a malformed header or mask.
    """
    with _open(path) as file, _damage(path):
        kspace = _dataset(path, file, "kspace")
        slices, coils, height, width = _shape(path, kspace)
        header, head = ismrmrd.Header(), None
        if "ismrmrd_header" in file:
            try:
                xml = _xml(path, file)
                header, head = ismrmrd.parse(xml), ismrmrd.simulated_head(xml)
            except ismrmrd.HeaderError as error:
                raise UsageError(
                    f"{path}: ismrmrd_header: {error}; write it again or leave it out"
                ) from error
        mask = _mask(path, file, height, width, header) if "mask" in file else None
        contrast = file.attrs.get("acquisition")
        known = isinstance(contrast, str) and ACQUISITION.fullmatch(contrast)
        return Scan(path, slices, coils, height, width, header, mask, contrast if known else None, head)


@contextmanager
def open_slices(scan: Scan) -> Iterator[ReadSlices]:
    """Give a function that reads slices: increasing indices to k-space, complex64 (n, coils, H, W).

    Raises:
        UsageError: the data cannot be read or are not finite.
    """
    with _open(scan.path) as file:
        with _damage(scan.path):
            kspace = _dataset(scan.path, file, "kspace")

        def read(slices: list[int]) -> Tensor:
            with _damage(scan.path):
                raw = kspace[_as_slice(slices)]
            with np.errstate(over="ignore"):
                raw = raw.astype(np.complex64, copy=False)
            found = torch.from_numpy(raw.reshape(len(slices), scan.coils, scan.height, scan.width))
            extremes = torch.stack([torch.stack(torch.view_as_real(one).aminmax()) for one in found])
            finite = extremes.isfinite().all(1).tolist()
            if not all(finite):
                bad = ", ".join(str(s) for s, good in zip(slices, finite, strict=True) if not good)
                raise UsageError(
                    f"{scan.path}: kspace is not finite in slice {bad}; leave it out with --slices"
                )
            return found

        yield read


def _as_slice(indices: list[int]) -> slice | list[int]:
    """Consecutive indices as a slice, which HDF5 reads at once."""
    first, last = indices[0], indices[-1]
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give fastMRI HDF5 files or folders of them")
    try:
        file = hdf5.reader(path)
    except OSError as error:
        raise UsageError(f"{path}: not a readable HDF5 file ({error}); copy the file again") from error
    with file:
        yield file


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """HDF5's many words for a damaged file."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: damaged, cannot be read ({reason}); copy the file again") from error


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset whose data lie in this very file."""
    link = file.get(name, getlink=True)
    if link is None:
        raise UsageError(f"{path}: has no dataset `{name}`; give fastMRI files with raw k-space")
    if not isinstance(link, h5py.HardLink):
        raise UsageError(f"{path}: `{name}` is a link; copy the data into the file")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise UsageError(f"{path}: `{name}` is not stored in this file; copy the data into it")
    return found


def _shape(path: Path, kspace: h5py.Dataset) -> tuple[int, int, int, int]:
    shape: tuple[int, ...] = tuple(kspace.shape or ())
    if len(shape) not in (3, 4):
        raise UsageError(
            f"{path}: kspace has shape {shape}; it must be (slices, coils, H, W), or (slices, H, W)"
        )
    if kspace.dtype.kind != "c":
        raise UsageError(f"{path}: kspace is {kspace.dtype}, not complex; store complex64")
    if 0 in shape:
        raise UsageError(f"{path}: kspace is empty, shape {shape}; leave this file out")
    slices, coils, height, width = shape if len(shape) == 4 else (shape[0], 1, shape[1], shape[2])
    if 8 * coils * height * width > MAX_SLICE_BYTES:
        raise UsageError(f"{path}: one slice of kspace {shape} needs more than 1 GiB; leave this file out")
    if kspace.nbytes > MAX_COMPRESSION * kspace.id.get_storage_size():
        raise UsageError(
            f"{path}: kspace declares {shape} but the file holds no such data; copy the file again"
        )
    return slices, coils, height, width


def _xml(path: Path, file: h5py.File) -> bytes:
    found = _dataset(path, file, "ismrmrd_header")
    text = found[()] if found.shape == () and found.nbytes <= ismrmrd.MAX_BYTES else None
    if isinstance(text, str):
        return text.encode()
    if not isinstance(text, bytes):
        raise UsageError(f"{path}: ismrmrd_header is not a string; write it again or leave it out")
    return text


def _mask(path: Path, file: h5py.File, height: int, width: int, header: ismrmrd.Header) -> Mask | None:
    """The scanner's mask; None where it leaves out nothing that was acquired."""
    found = _dataset(path, file, "mask")
    if found.shape not in ((width,), (height, width)) or found.dtype.kind not in "biuf":
        raise UsageError(
            f"{path}: mask is {found.dtype} of shape {found.shape}; it must be numbers of shape "
            f"({width},) or ({height}, {width})"
        )
    values = np.asarray(found[()])
    if not np.isfinite(values).all():
        raise UsageError(f"{path}: mask has values that are not finite; write it again")
    mask = values != 0
    left, right = header.acquired_lines(width) or (0, width)
    return None if mask[..., left:right].all() else mask
