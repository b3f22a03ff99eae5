"""The measurement store: one HDF5 file per volume, beside a manifest.

A volume file holds, per slice, what was measured and nothing else of the image:

==============  ==========  ==============================  =============================================
dataset         dtype       shape                           content
==============  ==========  ==============================  =============================================
``samples``     complex64   (slices, coils, points)         k-space at the mask's points, row by row of
                                                            (H, W), divided by ``scale``, zero-padded
``mask``        bool        (slices, 1 or H, W)             measured lines or points, DC in the centre
``acquired``    bool        (slices, W)                     lines that the scanner can measure
``maps``        complex64   (slices, coils, H, W)           coil sensitivities
``scale``       float32     (slices,)                       divisor of the k-space
``further``     bool        (slices, 1 or H, W)             optional: further mask fixed with the data
``record``      string      ()                              JSON: how it was made, ``VolumeRecord``
==============  ==========  ==============================  =============================================

Equal arrays and records give equal bytes. Files are read without locks and never change once they are
there (``mrigen.hdf5``): any number of processes read a store at a time, while another one prepares more of
it, from read-only and network file systems too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen import hdf5
from mrigen.data.manifest import in_split, write_record
from mrigen.data.mri_manifest import MRIManifest, VolumeRecord
from mrigen.data.volume_file import OpenVolumes
from mrigen.errors import UsageError
from mrigen.memory import available
from mrigen.operators.base import Operator
from mrigen.operators.masks import MASKS
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MRICorruption, MultiCoilMRI
from mrigen.operators.noise import Noise, NoiseLevels, parse_noise
from mrigen.tensors import TensorRecord

Array = NDArray[np.generic]
CACHE_BYTES = 4 << 30


@dataclass(frozen=True)
class VolumeArrays:
    """The arrays of one volume, as the module's table says."""

    samples: Array
    mask: Array
    acquired: Array
    maps: Array
    scale: Array
    further: Array | None = None


def pack(kspace: Array, mask: Array, points: int | None = None) -> Array:
    """k-space (slices, coils, H, W) at the points of masks (slices, 1 or H, W): (slices, coils, points).

    Args:
        kspace: k-space.
        mask: measured lines or points.
        points: length to pad to; by default that of the fullest slice.
    """
    full = np.broadcast_to(mask, (len(mask), *kspace.shape[-2:]))
    samples = np.zeros((*kspace.shape[:2], points or int(full.sum((1, 2)).max())), np.complex64)
    for row, (k, m) in enumerate(zip(kspace, full, strict=True)):
        samples[row, :, : int(m.sum())] = k[:, m]
    return samples


def unpack(samples: Tensor, mask: Tensor, height: int) -> Tensor:
    """Inverse of ``pack``: (B, coils, points) and (B, 1, 1 or H, W) to k-space (B, coils, H, W)."""
    batch, coils, points = samples.shape
    full = mask.expand(-1, 1, height, -1).reshape(batch, 1, -1)
    position = (full.cumsum(-1) - 1).clamp(min=0).expand(-1, coils, -1)
    dense = samples.gather(-1, position.clamp(max=points - 1)) * full
    return dense.view(batch, coils, height, -1)


@dataclass(frozen=True, eq=False)
class PackedSlices(TensorRecord):
    """Measured points of some slices, a fraction of their k-space.

    Attributes:
        samples: k-space at the points of the masks (B, coils, points), see ``pack``.
        maps: coil sensitivities (B, coils, H, W).
        mask: bool (B, 1, 1 or H, W).
        further: further masks like ``mask``, or None.
        sigma: standard deviation (B,) of the scanner's noise per real component, 0 where unknown; None for 0.
    """

    samples: Tensor
    maps: Tensor
    mask: Tensor
    further: Tensor | None = None
    sigma: Tensor | None = None

    def mask_further(self, further: Callable[[Operator], Operator]) -> PackedSlices:
        """The same with Ã drawn for each A, unless there are further masks already."""
        if self.further is not None:
            return self
        hidden = cast("MultiCoilMRI", further(MultiCoilMRI(self.maps, self.mask)))
        return replace(self, further=hidden.mask)

    def unpack(self) -> Measurements:
        """Measurements on the device where the tensors are."""
        operator = MultiCoilMRI(self.maps, self.mask)
        further = None if self.further is None else operator.with_mask(self.further)
        y = unpack(self.samples, self.mask, self.maps.shape[-2])
        sigma = torch.zeros(len(y), device=y.device) if self.sigma is None else self.sigma
        return Measurements(y, operator, sigma, further=further)


class ArrayWriter:
    """Writer of consecutive slices into the datasets of a volume file.

    Args:
        file: open for writing.
        slices: number of slices of the volume.
    """

    def __init__(self, file: h5py.File, slices: int) -> None:
        self._file = file
        self._slices = slices
        self._filled = 0

    def append(self, arrays: Mapping[str, Array | None]) -> None:
        """Write the next slices; the leading axis of every array counts them, None is left out."""
        count = 0
        for name, array in arrays.items():
            if array is None:
                continue
            if name not in self._file:
                shape = (self._slices, *array.shape[1:])
                self._file.create_dataset(
                    name, shape, array.dtype, chunks=(1, *shape[1:]) if shape[1:] else None
                )
            count = len(array)
            self._file[name][self._filled : self._filled + count] = array
        self._filled += count

    def finish(self, record: VolumeRecord) -> None:
        """Write how the file was made, after the last slice."""
        if self._filled != self._slices:
            raise ValueError(f"{self._filled} of {self._slices} slices were written")
        write_record(self._file, record)


@contextmanager
def new_volume(path: Path, slices: int) -> Iterator[ArrayWriter]:
    """Write a volume file a few slices at a time; it appears, complete, when the block ends."""
    with hdf5.writer(path) as file:
        yield ArrayWriter(file, slices)


def write_volume(path: Path, arrays: VolumeArrays, record: VolumeRecord) -> None:
    """Write a volume file atomically."""
    with new_volume(path, len(arrays.scale)) as writer:
        writer.append(vars(arrays))
        writer.finish(record)


class MeasurementStore:
    """Slices of one split of a prepared store, by index.

    Small stores are kept in memory; of larger ones a batch reads its own slices and nothing is kept.

    Args:
        folder: folder with ``manifest.json``.
        split: part of the data; ``"train"`` by default, None for all of it.
        cache_bytes: keep the store in memory if its files are no larger than this; by default 4 GiB, or
            an eighth of the memory that is available.

    Raises:
        UsageError: no store, a reference folder (training must not see clean images), a missing or
            damaged volume file, or an empty split.

    Examples:
        >>> import contextlib, io, tempfile
        >>> import numpy as np
        >>> import mrigen as mg
        >>> from mrigen.cli.main import run
        >>> folder = tempfile.mkdtemp()
        >>> np.save(f"{folder}/scan.npy", np.random.default_rng(0).standard_normal((1, 2, 24, 24)) + 0j)
        >>> command = f"prep-fastmri {folder}/scan.npy --out {folder}/store --acceleration 2 --acs-lines 8"
        >>> with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ...     code = run([*command.split(), "--kernel-width", "4", "--calib-readout", "12", "--jobs", "1"])
        >>> store = mg.MeasurementStore(f"{folder}/store")
        >>> len(store), store.image_shape, store.measurements([0]).y.shape
        (1, (1, 24, 24), torch.Size([1, 2, 24, 24]))
    """

    complex_valued = True
    classes = 0

    def __init__(
        self, folder: str | Path, split: str | None = "train", cache_bytes: int | None = None
    ) -> None:
        self.folder = Path(folder)
        self.manifest = MRIManifest.load(self.folder)
        self.manifest.require("measurements", self.folder)
        volumes = in_split(self.folder, self.manifest.volumes, split)
        bytes_needed = sum(_size(self.folder / v.file) for v in volumes)
        self._where = [(f, s) for f, v in enumerate(volumes) for s in range(len(v.slices))]
        self._noise = torch.tensor([s.noise or 0.0 for v in volumes for s in v.slices])
        shapes = sorted({v.shape for v in volumes})
        if len(shapes) > 1:
            raise UsageError(
                f"{folder}: volumes of different shapes (coils, H, W) {shapes}; prepare with --crop"
            )
        self.shape = shapes[0]
        self._open = OpenVolumes(self.folder, volumes)
        self._reading = threading.Lock()
        self._cache = None
        if bytes_needed <= (min(CACHE_BYTES, available() // 8) if cache_bytes is None else cache_bytes):
            self._cache = self._read(range(len(self)))
            self._open.close()

    def __len__(self) -> int:
        return len(self._where)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (1, H, W)."""
        return (1, *self.shape[1:])

    def measurements(self, indices: list[int], *, fixed_further: bool = False) -> Measurements:
        """A batch of measured k-space with its operators.

        Args:
            indices: slices of this split.
            fixed_further: take the further masks that were stored with the data.

        Raises:
            UsageError: ``fixed_further`` although the store has none.
        """
        return self.packed(indices, fixed_further=fixed_further).unpack()

    def packed(self, indices: list[int], *, fixed_further: bool = False) -> PackedSlices:
        """A batch as it is stored, for ``measurements`` on another device; arguments and errors as there."""
        arrays = self._take(indices)
        if fixed_further and arrays.further is None:
            raise UsageError(f"{self.folder}: has no fixed further masks; prepare with --fixed-further")
        further = arrays.further if fixed_further else None
        return PackedSlices(
            torch.from_numpy(arrays.samples),
            torch.from_numpy(arrays.maps),
            torch.from_numpy(arrays.mask)[:, None],
            None if further is None else torch.from_numpy(further)[:, None],
            self.noise_levels(indices),
        )

    def noise_levels(self, indices: list[int]) -> Tensor:
        """σ (n,) of the scanner's noise per real component of some slices' k-space; 0 where unknown."""
        return self._noise[indices]

    def maps_and_masks(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (n, coils, H, W), masks (n, 1, 1 or H, W) and acquired lines (n, W) of some slices."""
        arrays = self._take(indices)
        return (
            torch.from_numpy(arrays.maps),
            torch.from_numpy(arrays.mask)[:, None],
            torch.from_numpy(arrays.acquired),
        )

    def described(self) -> dict[str, Any]:
        """The corruption in words, for a model's description."""
        words: dict[str, Any] = {"mask": self.manifest.mask, "fresh_masks": self.manifest.fresh_masks}
        if self.manifest.phase != "coil":
            words["phase"] = self.manifest.phase
        scanner = self._scanner()
        return words if scanner is None else {**words, "sigma": {"low": scanner.low, "high": scanner.high}}

    def _scanner(self) -> Noise | None:
        """The law of the scanner's noise; None where a slice's is unknown."""
        return NoiseLevels.of(self._noise) if bool((self._noise > 0).all()) else None

    def corruption(self, *, described: Mapping[str, Any] | None = None) -> MRICorruption:
        """The corruption of this data: its maps with masks drawn from its law.

        Of data that were undersampled at the scanner, maps and masks are taken together from the store.

        Args:
            described: the corruption that a model was trained under, such as an imported teacher; where
                its ``mask`` is another law than the data's, masks are drawn anew from it; its ``sigma`` is
                the noise that an objective accounts for where the store's own is unknown.

        Raises:
            UsageError: the law does not fit the data's width, or the model's images have another phase.
        """
        words = described or {}
        phase = words.get("phase", "coil")
        if described is not None and phase != self.manifest.phase:
            raise UsageError(
                f"{self.folder}: its images have the phase relative to {self.manifest.phase}, the model's "
                f"are relative to {phase}; prepare the store again with --phase {phase}"
            )
        mask, scanner = words.get("mask"), self._scanner()
        if scanner is None and "sigma" in words:
            scanner = parse_noise(words["sigma"])
        if mask is None or mask == self.manifest.mask:
            mask_distribution = MASKS.build(self.manifest.mask or {})
            return MRICorruption(self, mask_distribution, fresh=self.manifest.fresh_masks, scanner=scanner)
        mask_distribution = MASKS.build(mask)
        mask_distribution.check(self.maps_and_masks([0])[2][0], self.shape[1])
        return MRICorruption(self, mask_distribution, scanner=scanner)

    def _take(self, indices: list[int]) -> VolumeArrays:
        if self._cache is None:
            return self._read(indices)
        taken: dict[str, Any] = {n: None if a is None else a[indices] for n, a in vars(self._cache).items()}
        return VolumeArrays(**taken)

    def _read(self, indices: list[int] | range) -> VolumeArrays:
        rows: dict[str, list[Array]] = {name: [] for name in VolumeArrays.__dataclass_fields__}
        for index in indices:
            number, position = self._where[index]
            with self._reading:
                file = self._open[number]
                for name, values in rows.items():
                    if name in file:
                        values.append(file[name][position])
        points = max(row.shape[-1] for row in rows["samples"])
        rows["samples"] = [np.pad(r, ((0, 0), (0, points - r.shape[-1]))) for r in rows["samples"]]
        return VolumeArrays(**{name: np.stack(values) if values else None for name, values in rows.items()})  # type: ignore[arg-type]


def _size(path: Path) -> int:
    """Bytes of a volume file.

    Raises:
        UsageError: it is missing.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path}: missing although the manifest lists it; prepare the data again") from error
