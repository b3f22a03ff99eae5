"""Raw k-space of any format as a source, prepared as training data are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators import Measurements, MultiCoilMRI
from mrigen.prep.kspace.noise_level import noise_level
from mrigen.prep.kspace.options import Options
from mrigen.prep.kspace.pipeline import Calibration, Pipeline
from mrigen.prep.readers import Choice, Loaded, inspect, open_slices, with_mask
from mrigen.prep.scan import ReadSlices
from mrigen.reconstruction.coil_maps import CoilMaps
from mrigen.reconstruction.sources import Batch, Source, voxel_of


class ScanSource(Source):
    """A volume of raw k-space.

    Undersampled data keep their own mask. Fully sampled data are undersampled here, and their image is the
    reference; without ``acceleration`` they are taken as they are. Coil maps and scale come from the ACS
    lines, as in ``mrigen prep-fastmri``. Where the options whiten the coils' noise, σ is that of the whitened
    data.

    Args:
        path: a file of one of the formats of ``mrigen.prep.readers``, or its k-space in memory.
        options: of the preparation; its ``acceleration`` undersamples fully sampled data.
        maps: own coil maps, or what ``calibrate`` computed before; None to compute them.

    Raises:
        UsageError: no usable k-space: wrong axes, not centred, not finite, no ACS lines, a mask that the
            data contradict, or maps of another scan.
    """

    def __init__(
        self, path: Path | Loaded, options: Options, maps: CoilMaps | Calibration | None = None
    ) -> None:
        self._open: Callable[[], AbstractContextManager[ReadSlices]]
        if isinstance(path, Loaded):
            self._scan = with_mask(path.scan, path.read)
            read_loaded = path.read
            self._open = lambda: nullcontext(read_loaded)
        else:
            self._scan = inspect(path, options.reader, options.choose)
            self._open = partial(open_slices, self._scan, options.reader, options.choose)
        self._path = path = self._scan.path
        self.name = path.stem
        with self._open() as read:
            self._check_mask(options)
            try:
                undersampled = self._scan.mask is not None or options.undersamples
                references = self._scan.full and undersampled
                self._pipeline = Pipeline.plan(self._scan, options, read, references=references)
            except UsageError as error:
                raise UsageError(_named(path, str(error))) from error
            level = noise_level(self._scan, read, self._pipeline.slices)
        # the ends of the readout show only noise where there is air, so that they are not relied on
        known = 0.0 if level is None or level.source == "ends of the readout" else level.sigma
        whitened = self._pipeline.noise
        self._sigma = known if whitened is None else whitened
        self.notes = [*self._scan.notes, *([level.note] if level is not None and level.note else [])]
        if not undersampled:
            self.notes.append("fully sampled: give --acceleration 4 to undersample it and see the errors")
        if isinstance(maps, Calibration):
            self._pipeline = replace(self._pipeline, calibration=maps)
        elif maps is not None:
            self._pipeline = replace(self._pipeline, own_maps=self._chosen(maps))
        self.labels = [f"slice {s}" for s in self._pipeline.slices]
        self.volumes = [self.name] * len(self.labels)
        self.places = self._places(options)
        self.shape = (1, *self._pipeline.shape[1:])
        self.voxel = voxel_of(dict(self._scan.whitelist()))
        self.acquisition = self._scan.acquisition
        if self._scan.geometry is not None:
            self.geometry = self._scan.geometry.chosen(self._pipeline.slices)
        self.has_reference = self._pipeline.references

    def calibrate(self) -> Calibration:
        """Coil maps of the slices.

        Raises:
            UsageError: they cannot be computed.
        """
        with self._open() as read:
            return self._pipeline.calibrate(read)

    def batches(self, size: int) -> Iterator[Batch]:
        """Slices as the pipeline gives them, which bounds the memory too."""
        masks = self._pipeline.sampling.masks
        with self._open() as read:
            try:
                for part in self._pipeline.run(read):
                    for first in range(0, len(part.scale), size):
                        rows = slice(first, first + size)
                        at = range(part.positions.start, part.positions.stop)[rows]
                        data = Measurements(
                            part.kspace[rows],
                            MultiCoilMRI(part.maps[rows], masks[at.start : at.stop, None]),
                            self._sigma / part.scale[rows],
                        )
                        reference = None if part.reference is None else part.reference[rows, None]
                        phase = None if part.phase is None else part.phase[rows, None]
                        yield Batch(list(at), data, part.scale[rows], part.mismatch[rows], reference, phase)
            except UsageError as error:
                raise UsageError(_named(self._path, str(error))) from error

    def _places(self, options: Options) -> list[tuple[str, int, int]]:
        """Volume, frame and slice; frames are numbers of the innermost axis that was taken as a whole."""
        whole = {name for name, value in Choice.parse(options.choose).values if value is None}
        counts = [count for name, count in self._scan.choices.items() if name in whole]
        per_frame, inner = self._scan.slices // math.prod(counts), counts[-1] if counts else 1
        frames = [divmod(number // per_frame, inner) for number in self._pipeline.slices]
        numbers = [number % per_frame for number in self._pipeline.slices]
        return [(f"{self.name} {outer}", f, n) for (outer, f), n in zip(frames, numbers, strict=True)]

    def _chosen(self, maps: CoilMaps) -> Callable[[slice], Tensor]:
        """Maps of the pipeline's slices."""
        coils, *image = self._pipeline.shape
        size = (image[0], image[1])
        if coils != self._scan.coils:
            raise UsageError("--maps are of all coils; leave out --virtual-coils")
        maps.require(coils, [size, (self._scan.height, self._scan.width)])
        rows = maps.choose(self._pipeline.slices, self._scan.slices)
        return lambda positions: maps.read(rows[positions], size)

    def _check_mask(self, options: Options) -> None:
        if self._scan.mask is not None and options.undersamples:
            raise UsageError(
                f"{self._path}: is undersampled and keeps its own mask; leave out --acceleration and "
                "--mask-law"
            )
        if self._scan.mask is None and options.mask is not None and options.acceleration is None:
            raise UsageError(f"{self._path}: --mask-law {options.mask} needs --acceleration; give both")


def _named(path: Path, message: str) -> str:
    return message if message.startswith(f"{path}: ") else f"{path}: {message}"
