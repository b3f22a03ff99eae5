"""HDF5 layouts of Calgary-Campinas, SKM-TEA, fastMRI prostate and fastMRI breast."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrigen import hdf5
from mrigen.errors import UsageError
from mrigen.prep import ismrmrd
from mrigen.prep.readers import signatures
from mrigen.prep.readers.base import READERS, Choice, Loaded, LoadedReader
from mrigen.prep.readers.volumes import combine_averages
from mrigen.prep.scan import Scan

NAME = "kspace"


class HDF5Layout(LoadedReader):
    """A layout with k-space in the dataset ``kspace``, read slice by slice; seen by its content only."""

    suffixes = ()

    def load(self, path: Path, choice: Choice) -> Loaded:
        """What the layout makes of the dataset."""
        shape, _ = signatures.layout(path).get(NAME, ((), None))
        if not shape or 0 in shape:
            raise UsageError(
                f"{path}: has no dataset `{NAME}`, or an empty one; give the data set's own files"
            )
        return self.arrange(path, shape, choice)

    @abstractmethod
    def arrange(self, path: Path, shape: tuple[int, ...], choice: Choice) -> Loaded:
        """k-space as the other formats have it.

        Raises:
            UsageError: the dataset cannot be used.
        """


def read_rows(path: Path, index: Any) -> NDArray[Any]:
    """A part of the dataset ``kspace``.

    Raises:
        UsageError: it is a link, or damaged.
    """
    try:
        with hdf5.reader(path) as file:
            dataset = file[NAME]
            if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
                raise UsageError(f"{path}: `{NAME}` is not stored in this file; copy the data into it")
            return np.asarray(dataset[index])
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: damaged, cannot be read ({reason}); copy the file again") from error


def uncentred(kspace: NDArray[Any], axes: tuple[int, ...]) -> NDArray[np.complex64]:
    """k-space of the centred transform from one whose plain ``numpy.fft.ifft2`` has the image's middle at n
    // 2.

    The centred transform would put that image's index 0 into the middle: a linear phase moves it back.
    """
    shifted = kspace
    for axis in axes:
        count = kspace.shape[axis]
        frequency = np.arange(count) - count // 2
        shape = [1] * kspace.ndim
        shape[axis] = count
        shifted = shifted * np.exp(2j * np.pi * frequency * (count // 2) / count).reshape(shape)
    return shifted.astype(np.complex64)


@READERS.register("calgary-campinas")
class CalgaryCampinas(HDF5Layout):
    """Multi-channel T1 volumes, float (x, ky, kz, 2 coils).

    The readout was transformed already, so that x counts sagittal slices (ky, kz). Channels 2c and 2c + 1
    are the real and the imaginary part of coil c, and ``numpy.fft.ifft2`` without any shift gives the image.
    DC lies in the middle or at index 0, which the energy shows. About 15 % of the kz were not acquired and
    are zero at one edge; test volumes are zero where their Poisson masks are. Souza et al., NeuroImage 170
    (2018), and the data set's own notebooks.
    """

    title = "Calgary-Campinas HDF5"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """``kspace`` of real numbers and four axes, the last of even length and no longer than ky and kz."""
        shape, dtype = signatures.layout(path).get(NAME, ((), None))
        real = len(shape) == 4 and dtype is not None and dtype.kind == "f"
        return real and shape[-1] % 2 == 0 and shape[-1] <= min(shape[1:3])

    def arrange(self, path: Path, shape: tuple[int, ...], choice: Choice) -> Loaded:
        """Slices (ky, kz) along x."""
        choice.of(path, {})

        def pairs(indices: list[int]) -> NDArray[np.complex64]:
            values = read_rows(path, indices)
            return np.moveaxis(values[..., ::2] + np.complex64(1j) * values[..., 1::2], -1, 1)

        slices, height, width, channels = shape
        energy = (np.abs(pairs([slices // 2])) ** 2).sum((0, 1))
        row, column = np.unravel_index(int(energy.argmax()), energy.shape)
        corner = abs(row - height // 2) > height // 4 and abs(column - width // 2) > width // 4
        shift = (height // 2, width // 2) if corner else (0, 0)

        def rows(indices: list[int]) -> NDArray[np.complex64]:
            return uncentred(np.roll(pairs(indices), shift, (-2, -1)), (-2, -1))

        held = np.roll(energy, shift, (0, 1)) > 0
        lines = np.flatnonzero(held.any(0))
        whole = bool(held[:, lines[0] : lines[-1] + 1].all()) if len(lines) else False
        notes = ("slices along the readout, (ky, kz)", "the file does not say where the patient lay")
        return Loaded(rows, Scan(path, slices, channels // 2, height, width, complete=whole, notes=notes))


@READERS.register("skm-tea")
class SKMTEA(HDF5Layout):
    """Knees of SKM-TEA, complex (x, ky, kz, echoes, coils), the readout transformed already.

    The echo is a choice. The masks beside the data (``masks/poisson_8.0x``) are for retrospective
    undersampling and are not applied. Desai et al., NeurIPS Datasets 2021, and the data set's DATASET.md.
    """

    title = "SKM-TEA HDF5"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Complex ``kspace`` of five axes with two echoes, beside ``maps`` or ``masks``."""
        layout = signatures.layout(path)
        shape, dtype = layout.get(NAME, ((), None))
        beside = "maps" in layout or "masks" in signatures.groups(path)
        return len(shape) == 5 and dtype is not None and dtype.kind == "c" and beside

    def arrange(self, path: Path, shape: tuple[int, ...], choice: Choice) -> Loaded:
        """Slices (ky, kz) along x, of one echo."""
        slices, height, width, echoes, coils = shape
        chosen = choice.of(path, {"echo": echoes})["echo"]

        def rows(indices: list[int]) -> NDArray[np.complex64]:
            kspace = [read_rows(path, s % slices)[:, :, chosen[s // slices]] for s in indices]
            return np.ascontiguousarray(np.moveaxis(np.stack(kspace), -1, 1), np.complex64)

        notes = ("slices along the readout, (ky, kz)", "the file does not say where the patient lay")
        size = (slices * len(chosen), coils, height, width)
        return Loaded(rows, Scan(path, *size, choices={"echo": echoes} if echoes > 1 else {}, notes=notes))


@READERS.register("fastmri-prostate")
class Prostate(HDF5Layout):
    """T2 volumes of fastMRI prostate, complex (averages, slices, coils, H, W).

    Each average measured every second line. They are averaged where they measured a line, which makes
    the scan complete; motion between averages is not corrected. Tibrewala et al., Sci Data 11 (2024).
    """

    title = "fastMRI prostate HDF5"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Complex ``kspace`` of five axes that is not SKM-TEA's."""
        shape, dtype = signatures.layout(path).get(NAME, ((), None))
        return len(shape) == 5 and dtype is not None and dtype.kind == "c" and not SKMTEA.matches(path)

    def arrange(self, path: Path, shape: tuple[int, ...], choice: Choice) -> Loaded:
        """The mean of the averages."""
        choice.of(path, {})
        averages, slices, coils, height, width = shape

        def rows(indices: list[int]) -> NDArray[np.complex64]:
            return combine_averages(read_rows(path, (slice(None), indices)), 0, 2)

        notes = (f"{averages} averages were averaged",) if averages > 1 else ()
        return Loaded(
            rows, Scan(path, slices, coils, height, width, complete=True, header=_header(path), notes=notes)
        )


@READERS.register("fastmri-breast")
class Breast(HDF5Layout):
    """Dynamic breasts of fastMRI: real and imaginary parts of golden-angle radial stacks of stars.

    Only looked at: its k-space is not Cartesian. Solomon et al., Radiol Artif Intell 7 (2025).
    """

    title = "fastMRI breast HDF5 (radial)"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """``kspace`` of real numbers and five axes, (2, spokes, samples, coils, partitions)."""
        shape, dtype = signatures.layout(path).get(NAME, ((), None))
        return len(shape) == 5 and dtype is not None and dtype.kind == "f" and shape[0] == 2 != shape[-1]

    def arrange(self, path: Path, shape: tuple[int, ...], choice: Choice) -> Loaded:
        """Refused, with the way through Python."""
        del choice
        raise UsageError(
            f"{path}: is fastMRI breast, a radial stack of stars {shape}, and only Cartesian k-space is "
            "read; use mrigen.operators.non_cartesian in Python"
        )


def _header(path: Path) -> ismrmrd.Header:
    """The ISMRMRD header beside the data, where there is one that can be read."""
    try:
        with hdf5.reader(path) as file:
            dataset = file.get("ismrmrd_header")
            text = dataset[()] if isinstance(dataset, h5py.Dataset) and dataset.shape == () else b""
        return ismrmrd.parse(text if isinstance(text, bytes) else str(text).encode())
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, ismrmrd.HeaderError):
        return ismrmrd.Header()
