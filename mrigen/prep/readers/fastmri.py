"""fastMRI's HDF5 layout: ``kspace`` (slices, coils, H, W), ISMRMRD header, attributes.

Files come from strangers: what they declare is checked before anything is allocated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen import hdf5
from mrigen.errors import UsageError
from mrigen.prep import ismrmrd
from mrigen.prep.readers import signatures
from mrigen.prep.readers.base import READERS, Choice, Reader
from mrigen.prep.scan import MASKS, MAX_SLICE_BYTES, ReadSlices, Scan, one_slice

MAX_COMPRESSION = 4096
MAX_MASK = 1 << 28
ACQUISITION = re.compile(r"[A-Za-z0-9_]{1,32}")


@READERS.register("fastmri")
class FastMRI(Reader):
    """fastMRI's knee and brain volumes, M4Raw's, and what ``mrigen simulate`` writes.

    A repetition of M4Raw is a file of its own, with one letter for the contrast and two digits for the
    repetition at the end of its name.
    """

    title = "fastMRI HDF5"
    suffixes = (".h5", ".hdf5")

    @classmethod
    def matches(cls, path: Path) -> bool:
        """A dataset ``kspace`` of three or four axes and complex numbers, or pairs of real ones."""
        shape, dtype = signatures.layout(path).get("kspace", ((), None))
        if signatures.kind(path) != "HDF5" or dtype is None:
            return False
        return len(shape) - _last_axis_of_two(shape, dtype) in {3, 4} and _is_complex(shape, dtype)

    def inspect(self, path: Path, choice: Choice) -> Scan:
        """Its declarations; where the slices lie in the patient is not among them."""
        choice.of(path, {})
        scan = read_declarations(path)
        return replace(scan, notes=(*scan.notes, "fastMRI files do not say where the patient lay"))

    def open(self, scan: Scan, choice: Choice) -> AbstractContextManager[ReadSlices]:
        """Its k-space."""
        del choice
        return read_slices(scan)


def read_declarations(path: Path) -> Scan:
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
        contrast, subject = file.attrs.get("acquisition"), file.attrs.get("patient_id")
        known = isinstance(contrast, str) and ACQUISITION.fullmatch(contrast)
        return Scan(
            path,
            slices,
            coils,
            height,
            width,
            header,
            _mask(path, file),
            acquisition=contrast if known else None,
            head=head,
            subject=head or (subject if isinstance(subject, str) and subject else None),
            notes=(one_slice(coils),) if kspace.ndim == 3 and coils > 1 else (),
        )


@contextmanager
def read_slices(scan: Scan) -> Iterator[ReadSlices]:
    """Give a function that reads slices: increasing indices to k-space, complex64 (n, coils, H, W).

    Raises:
        UsageError: the data cannot be read or are not finite.
    """
    with _open(scan.path) as file:
        with _damage(scan.path):
            kspace = _dataset(scan.path, file, "kspace")

        def read(slices: list[int]) -> Tensor:
            with _damage(scan.path):
                raw = kspace[()] if kspace.ndim == 3 and scan.coils > 1 else kspace[_as_slice(slices)]
            with np.errstate(over="ignore"):
                raw = _complex(raw).astype(np.complex64, copy=False)
            values = torch.from_numpy(raw.reshape(len(slices), scan.coils, scan.height, scan.width))
            extremes = torch.stack([torch.stack(torch.view_as_real(one).aminmax()) for one in values])
            finite = extremes.isfinite().all(1).tolist()
            if not all(finite):
                bad = ", ".join(str(s) for s, good in zip(slices, finite, strict=True) if not good)
                raise UsageError(
                    f"{scan.path}: kspace is not finite in slice {bad}; leave it out with --slices"
                )
            return values

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
        raise UsageError(
            f"{path}: has no dataset `{name}`, it is {signatures.describe(path)}; give fastMRI files with "
            "raw k-space"
        )
    if not isinstance(link, h5py.HardLink):
        raise UsageError(f"{path}: `{name}` is a link; copy the data into the file")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise UsageError(f"{path}: `{name}` is not stored in this file; copy the data into it")
    hdf5.require_filters(dataset, path)
    return dataset


def _last_axis_of_two(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether the last axis of (slices, coils, H, W, 2) holds real and imaginary parts."""
    return dtype.kind == "f" and len(shape) == 5 and shape[-1] == 2


def _is_complex(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether a dataset holds complex numbers, pairs along a last axis, or h5py's fields ``r`` and ``i``."""
    pairs = dtype.names == ("r", "i") and dtype["r"].kind == dtype["i"].kind == "f"
    return dtype.kind == "c" or pairs or _last_axis_of_two(shape, dtype)


def _complex(values: NDArray[Any]) -> NDArray[Any]:
    """Complex numbers of what ``_is_complex`` takes."""
    if values.dtype.names is not None:
        return np.asarray(values["r"].astype(np.float32) + np.complex64(1j) * values["i"].astype(np.float32))
    if values.dtype.kind == "f":
        return np.asarray(values[..., 0] + np.complex64(1j) * values[..., 1])
    return values


def _single_coil(file: h5py.File) -> bool:
    """Whether three axes are (slices, H, W), as in fastMRI's single-coil files, which have a header or
    attributes.

    Without those they are (coils, H, W), as in ``.npy``.
    """
    return "ismrmrd_header" in file or "reconstruction_esc" in file or "acquisition" in file.attrs


def _shape(path: Path, kspace: h5py.Dataset) -> tuple[int, int, int, int]:
    stored: tuple[int, ...] = tuple(kspace.shape or ())
    shape = stored[: len(stored) - _last_axis_of_two(stored, kspace.dtype)]
    if len(shape) not in (3, 4):
        raise UsageError(
            f"{path}: kspace has shape {shape}; it must be (slices, coils, H, W), or (coils, H, W), "
            "or (slices, H, W) beside fastMRI's header"
        )
    if not _is_complex(stored, kspace.dtype):
        raise UsageError(f"{path}: kspace is {kspace.dtype}, not complex; store complex64")
    if 0 in shape:
        raise UsageError(f"{path}: kspace is empty, shape {shape}; leave this file out")
    one = (shape[0], 1) if _single_coil(kspace.file) else (1, shape[0])
    slices, coils, height, width = shape if len(shape) == 4 else (*one, *shape[1:])
    if 8 * coils * height * width > MAX_SLICE_BYTES:
        raise UsageError(f"{path}: one slice of kspace {shape} needs more than 1 GiB; leave this file out")
    if kspace.nbytes > MAX_COMPRESSION * kspace.id.get_storage_size():
        raise UsageError(
            f"{path}: kspace declares {shape} but the file holds no such data; copy the file again"
        )
    return slices, coils, height, width


def _xml(path: Path, file: h5py.File) -> bytes:
    dataset = _dataset(path, file, "ismrmrd_header")
    text = dataset[()] if dataset.shape == () and dataset.nbytes <= ismrmrd.MAX_BYTES else None
    if isinstance(text, str):
        return text.encode()
    if not isinstance(text, bytes):
        raise UsageError(f"{path}: ismrmrd_header is not a string; write it again or leave it out")
    return text


def _mask(path: Path, file: h5py.File) -> NDArray[Any] | None:
    """The mask beside the data, as it is stored."""
    name = next((n for n in MASKS if n in file), None)
    if name is None:
        return None
    dataset = _dataset(path, file, name)
    if dataset.size > MAX_MASK:
        raise UsageError(f"{path}: mask is of shape {dataset.shape}; it must be (W,) or (H, W)")
    return np.asarray(dataset[()])
