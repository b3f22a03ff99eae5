"""Raw k-space as a source: fastMRI HDF5 files and numpy arrays, prepared as training data are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.prep.fastmri_read import MAX_SLICE_BYTES, ReadSlices, Scan, inspect, open_slices
from mrigen.prep.options import Options, choose_slices
from mrigen.prep.pipeline import Pipeline
from mrigen.reconstruction.checks import (
    require_agreement,
    require_centred,
    require_coils,
    require_finite,
)
from mrigen.reconstruction.coil_maps import CoilMaps
from mrigen.reconstruction.sources import Batch, Source, voxel_of


class ScanSource(Source):
    """A volume of raw k-space.

    Undersampled data keep their own mask. Fully sampled data are undersampled here, and their image is the
    reference. Coil maps and scale come from the ACS lines, as in ``mrigen prep-fastmri``; the coils are
    neither whitened nor, by default, compressed.

    Args:
        path: HDF5 file as of fastMRI, or ``.npy`` or ``.npz`` with k-space (coils, H, W) or
            (slices, coils, H, W), zero where it was not measured.
        options: of the preparation; its ``acceleration`` undersamples fully sampled data.
        maps: own coil maps; None to compute them.

    Raises:
        UsageError: no usable k-space: wrong axes, not centred, not finite, no ACS lines, a mask that the
            data contradict, or maps of another scan.
    """

    def __init__(self, path: Path, options: Options, maps: CoilMaps | None = None) -> None:
        self.name = path.stem
        self._path = path
        self._array = None if path.suffix in {".h5", ".hdf5"} else read_array(path)
        self._scan = inspect(path) if self._array is None else array_scan(path, self._array)
        require_coils((self._scan.coils, self._scan.height, self._scan.width), str(path))
        chosen = choose_slices(options.slices, self._scan.slices)
        with self._reading() as read:
            probe = read([chosen[len(chosen) // 2]])
            require_centred(probe, str(path))
            self._check_mask(probe, options)
            try:
                self._pipeline = Pipeline.plan(self._scan, options, read, references=self._scan.mask is None)
            except UsageError as error:
                raise UsageError(_named(path, str(error))) from error
        if maps is not None:
            self._pipeline = replace(self._pipeline, own_maps=self._chosen(maps))
        self.labels = [f"slice {s}" for s in self._pipeline.slices]
        self.volumes = [self.name] * len(self.labels)
        self.shape = (1, *self._pipeline.shape[1:])
        self.voxel = voxel_of(dict(self._scan.whitelist()))
        self.has_reference = self._pipeline.references

    def batches(self, size: int) -> Iterator[Batch]:
        """Slices as the pipeline gives them, which bounds the memory too."""
        masks = self._pipeline.sampling.masks
        with self._reading() as read:
            try:
                for part in self._pipeline.run(read):
                    for first in range(0, len(part.scale), size):
                        some = slice(first, first + size)
                        at = range(part.positions.start, part.positions.stop)[some]
                        data = Measurements(
                            part.kspace[some],
                            MultiCoilMRI(part.maps[some], masks[at.start : at.stop, None]),
                            torch.zeros(len(at)),
                        )
                        reference = None if part.reference is None else part.reference[some, None]
                        phase = None if part.phase is None else part.phase[some, None]
                        yield Batch(list(at), data, part.scale[some], part.mismatch[some], reference, phase)
            except UsageError as error:
                raise UsageError(_named(self._path, str(error))) from error

    def _chosen(self, maps: CoilMaps) -> Callable[[slice], Tensor]:
        """Maps of the pipeline's slices."""
        coils, *image = self._pipeline.shape
        size = (image[0], image[1])
        if coils != self._scan.coils:
            raise UsageError("--maps are of all coils; leave out --virtual-coils")
        maps.require(coils, [size, (self._scan.height, self._scan.width)])
        rows = maps.choose(self._pipeline.slices, self._scan.slices)
        return lambda positions: maps.read(rows[positions], size)

    def _check_mask(self, probe: Tensor, options: Options) -> None:
        if self._scan.mask is not None:
            if options.undersamples:
                raise UsageError(
                    f"{self._path}: is undersampled and keeps its own mask; leave out --acceleration, "
                    "--mask-law and --acs-lines"
                )
            require_agreement(probe, torch.from_numpy(self._scan.mask), str(self._path))
        elif options.acceleration is None:
            raise UsageError(
                f"{self._path}: is fully sampled, there is nothing to reconstruct; give --acceleration 4 to "
                "undersample it and compare with the fully sampled image"
            )

    @contextmanager
    def _reading(self) -> Iterator[ReadSlices]:
        if self._array is None:
            with open_slices(self._scan) as read:
                yield read
        else:
            array = self._array
            yield lambda slices: torch.from_numpy(array[slices])


def read_array(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.complex64]]:
    """k-space (slices, coils, H, W) of a numpy file.

    Raises:
        UsageError: not an array of k-space, or not finite.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            names = found.files
            if len(names) != 1 and "kspace" not in names:
                raise UsageError(f"{path}: holds {', '.join(names)}; call the array `kspace`")
            found = found["kspace" if "kspace" in names else names[0]]
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not a readable numpy file ({reason}); save it with numpy.save") from error
    if found.dtype.kind != "c":
        raise UsageError(f"{path}: holds {found.dtype}, not complex k-space; save complex64")
    if found.ndim not in {3, 4} or not found.size:
        raise UsageError(
            f"{path}: k-space has shape {found.shape}; it must be (coils, H, W) or (slices, coils, H, W)"
        )
    require_coils(found.shape, str(path))
    kspace = np.ascontiguousarray(found.reshape(-1, *found.shape[-3:]), np.complex64)
    if kspace[0].nbytes > MAX_SLICE_BYTES:
        raise UsageError(f"{path}: one slice of k-space {found.shape} needs more than 1 GiB")
    require_finite(torch.from_numpy(kspace), str(path))
    return kspace


def array_scan(path: Path, kspace: np.ndarray[tuple[int, ...], np.dtype[np.complex64]]) -> Scan:
    """What an array says of itself: its zeros are the mask.

    Raises:
        UsageError: it is zero.
    """
    slices, coils, height, width = kspace.shape
    holds = (kspace != 0).any(axis=(0, 1))
    if not holds.any():
        raise UsageError(f"{path}: k-space is zero; give another file")
    lines = holds.any(0)
    mask = None if holds.all() else lines if (holds == lines).all() else holds
    return Scan(path, slices, coils, height, width, mask=mask)


def _named(path: Path, message: str) -> str:
    return message if message.startswith(f"{path}: ") else f"{path}: {message}"
