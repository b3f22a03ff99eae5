"""From the raw k-space of one volume to what a store keeps of it (Ambient DPS, Aali et al. 2025).

In this order: whiten the coils' noise, crop the readout and then the phase encode in image space, apply
the mask, compress the coils, compute maps, divide by the scale. Compression, maps and scale are
computed from measured lines, slice by slice; the phase encode is cropped before data are undersampled,
never after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mrigen import fourier
from mrigen.coils.calibration import region
from mrigen.coils.compress import compression_matrix
from mrigen.coils.espirit import espirit
from mrigen.coils.whiten import corner_noise, mix_coils, whiten, whitening_matrix
from mrigen.errors import UsageError
from mrigen.operators import MultiCoilMRI
from mrigen.operators.masks import MASKS
from mrigen.prefetch import prefetched
from mrigen.prep.kspace import sampling, steps
from mrigen.prep.kspace.options import Options, choose_slices
from mrigen.prep.kspace.sampling import Sampling
from mrigen.prep.scan import ReadSlices, Scan
from mrigen.seeds import seeded_rng

CHUNK_BYTES = 32 << 20
PROBED_SLICES, PROBED_BYTES = 16, 64 << 20


@dataclass(frozen=True, eq=False)
class PreparedSlices:
    """Consecutive slices after the pipeline.

    Attributes:
        positions: their positions among the selected slices.
        kspace: measured k-space over the scale, zero elsewhere, complex64 (n, coils, H, W).
        maps: coil sensitivities, complex64 (n, coils, H, W).
        scale: divisor of the k-space, float32 (n,).
        mismatch: how far the measured data are from the model, float32 (n,).
        reference: coil-combined fully sampled image over the scale, complex64 (n, H, W); None where
            it was not wanted.
        phase: e^{iφ} that the maps carry and the images lack, complex64 (n, H, W); None for none.
    """

    positions: slice
    kspace: Tensor
    maps: Tensor
    scale: Tensor
    mismatch: Tensor
    reference: Tensor | None
    phase: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """Coil maps, and what they were computed from.

    Attributes:
        kspace: fully sampled centre after whitening and compression, complex64 (n, coils, rows, columns).
        maps: coil sensitivities, complex64 (n, coils, H, W).
    """

    kspace: Tensor
    maps: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.kspace.nbytes + self.maps.nbytes


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The steps for one volume, decided.

    Attributes:
        scan: what is prepared.
        options: how.
        slices: indices of the selected slices.
        shape: coils, H and W of the result.
        sampling: masks of the selected slices.
        required: lines of the raw k-space that must hold data in each slice, bool (slices, W).
        whitening: matrix that decorrelates the coils' noise, or None.
        noise: standard deviation of the noise per real component of the k-space before scaling.
        references: whether fully sampled images are wanted.
        own_maps: coil maps (n, coils, H, W) of some of the selected slices; None to compute them.
        calibration: maps that were computed before; they are taken where their k-space is still the same.
    """

    scan: Scan
    options: Options
    slices: list[int]
    shape: tuple[int, int, int]
    sampling: Sampling
    required: Tensor
    whitening: Tensor | None
    noise: float | None
    references: bool
    own_maps: Callable[[slice], Tensor] | None = None
    calibration: Calibration | None = None

    @classmethod
    def plan(cls, scan: Scan, options: Options, read: ReadSlices, *, references: bool) -> Pipeline:
        """Look at a few slices for the zero-padded edges and the noise, and draw the masks.

        Raises:
            UsageError: the options do not fit this volume.
        """
        shape = prepared_shape(scan, options)
        slices = choose_slices(options.slices, scan.slices)
        probed = max(1, min(PROBED_SLICES, PROBED_BYTES // scan.slice_bytes))
        probe = read(slices[:: -(-len(slices) // probed)])
        padding = scan.header.acquired_lines(scan.width)
        random = partial(seeded_rng, options.seed, scan.path.stem)
        if scan.mask is None:
            acquired = sampling.acquired_lines(sampling.lines_with_data(probe).any(0), padding)
            cropped, required = sampling.after_crop(acquired, shape[2]), acquired.expand(len(slices), -1)
            further = options.fixed_further
            if options.undersamples:
                law = MASKS.build(options.law)
                masks = sampling.retrospective(law, cropped, shape[1], slices, random, further=further)
            else:
                lines = options.calibration_lines(shape[2]) or options.calib_readout
                masks = sampling.complete(cropped, len(slices), min(lines, shape[2]))
        else:
            acquired = sampling.between(scan.width, *(padding or (0, scan.width)))
            holds_data = (probe != 0).any(1).any(0)
            mask = torch.from_numpy(scan.mask)
            mask = (mask[slices] if mask.ndim == 3 else torch.atleast_2d(mask)[None]).expand(
                len(slices), -1, -1
            )
            if mask.shape[1] == 1:
                mask = mask & holds_data.any(0)
            elif scan.mask.ndim == 2:
                mask = mask & holds_data
            most, further = options.calibration_lines(scan.width), options.fixed_further
            masks = sampling.measured(mask, acquired, slices, random, most, further=further)
            required = masks.masks.any(1)
        whitening, noise = None, None
        whitens = options.noise_whitening
        if whitens is None:
            whitens = scan.mask is None or scan.noise is not None
        if whitens and scan.noise is not None:
            whitening, noise = whitening_matrix(torch.from_numpy(scan.noise)), 1.0
        elif whitens:
            whitening = whitening_matrix(corner_noise(probe))
            noise = float((len(acquired) / acquired.sum()).sqrt())
        return cls(scan, options, slices, shape, masks, required, whitening, noise, references)

    def run(self, read: ReadSlices) -> Iterator[PreparedSlices]:
        """Prepare the selected slices, a few at a time; the next ones are read meanwhile."""
        at_once = max(1, CHUNK_BYTES // self.scan.slice_bytes)
        firsts = range(0, len(self.slices), at_once)
        parts = [slice(first, min(first + at_once, len(self.slices))) for first in firsts]
        for positions, kspace in zip(
            parts, prefetched(read(self.slices[part]) for part in parts), strict=True
        ):
            yield self._prepare(kspace, positions)

    def calibrate(self, read: ReadSlices) -> Calibration:
        """Coil maps of the selected slices as ``run`` computes them, and nothing else."""
        kspace = self._cropped(read(self.slices))
        return self._calibrated(kspace, kspace * self.sampling.masks[:, None])

    def _prepare(self, kspace: Tensor, positions: slice) -> PreparedSlices:
        self._require_data(kspace, positions)
        kspace = self._cropped(kspace)
        mask = self.sampling.masks[positions, None]
        measured = kspace * mask
        own = self.own_maps
        maps = self._calibrated(kspace, measured).maps if own is None else own(positions)
        acs = measured * self.sampling.acs_mask
        phase = steps.low_resolution_phase(acs, maps) if self.options.phase == "acs" else None
        if phase is not None:
            maps = maps * phase[:, None]
        scale = steps.acs_scale(acs)
        if not (scale > 0).all():
            raise UsageError("the ACS lines of a slice hold no signal; leave the slice out with --slices")
        measured = steps.divide(measured, scale)
        reference = None
        if self.references:
            reference = steps.divide((maps.conj() * fourier.ifft(kspace)).sum(1), scale)
        deviation = steps.mismatch(measured, MultiCoilMRI(maps, mask))
        return PreparedSlices(positions, measured, maps, scale, deviation, reference, phase)

    def _cropped(self, kspace: Tensor) -> Tensor:
        """Whitened, compressed and cropped k-space."""
        _, height, width = self.shape
        matrix = self._mixing(kspace)
        if matrix is not None:
            kspace = mix_coils(matrix, kspace)
        kspace = steps.crop_image(steps.crop_image(kspace, height, -2), width, -1)
        return kspace * self.sampling.acquired

    def _mixing(self, kspace: Tensor) -> Tensor | None:
        """Whitening and, from the ACS of each slice, compression, as one matrix per slice.

        What mixes coils commutes with the crops, and fewer coils are cropped faster.
        """
        coils, height, width = self.shape
        if coils == self.scan.coils:
            return self.whitening
        rows, columns = self.sampling.acs
        acs = steps.crop_image(kspace, width, -1)[..., columns]
        if self.whitening is not None:
            acs = whiten(acs, self.whitening)
        acs = steps.crop_image(acs, height, -2)[..., rows, :]
        matrix = compression_matrix(acs.flatten(2), coils)
        return matrix if self.whitening is None else matrix @ self.whitening

    def _calibrated(self, kspace: Tensor, measured: Tensor) -> Calibration:
        o = self.options
        rows, columns = self.sampling.acs
        if o.maps_from == "full":
            extent: tuple[int | slice, int | slice] = (o.calib_readout, o.calib_readout)
        else:
            kspace, extent = measured, (o.calib_readout if rows == slice(None) else rows, columns)
        centre = kspace[..., region(kspace.shape[-2], extent[0]), region(kspace.shape[-1], extent[1])]
        if self.calibration is not None and torch.equal(centre, self.calibration.kspace):
            return self.calibration
        if self.scan.coils == 1:
            maps = torch.ones_like(kspace)
        else:
            maps = espirit(kspace, extent, o.kernel_width, o.espirit_threshold, o.espirit_crop)
        return Calibration(centre.clone(), maps)

    def _require_data(self, kspace: Tensor, positions: slice) -> None:
        empty = (self.required[positions] & ~sampling.lines_with_data(kspace)).sum(1).tolist()
        for index, count in zip(self.slices[positions], empty, strict=True):
            if count:
                raise UsageError(
                    f"{count} lines of slice {index} hold no data; leave the slice out with --slices"
                )


def prepared_shape(scan: Scan, options: Options) -> tuple[int, int, int]:
    """Coils, H and W that a volume has in the store.

    Raises:
        UsageError: the options ask for a crop that this volume cannot have.
    """
    path, (crop_height, width) = scan.path, options.crop
    coils = min(scan.coils, options.virtual_coils or scan.coils)
    oversampling = scan.header.readout_oversampling() if options.remove_oversampling else 1.0
    height = crop_height or round(scan.height / oversampling)
    width = width or scan.width
    if not height:
        raise UsageError(
            f"{path}: the header's fields of view leave nothing of {scan.height} readout samples; say "
            "--keep-oversampling"
        )
    if height > scan.height or width > scan.width:
        raise UsageError(
            f"{path}: k-space of {scan.height}x{scan.width} is smaller than --crop {height} {width}; "
            "crop less or leave it out with --only-size"
        )
    if scan.mask is None:
        return coils, height, width
    if width != scan.width:
        raise UsageError(
            f"{path}: the phase encode was undersampled at the scanner, and cropping its image needs all "
            f"{scan.width} lines; keep it with --crop {crop_height} 0"
        )
    if height != scan.height and scan.points:
        raise UsageError(
            f"{path}: the readout was undersampled at the scanner, and cropping its image needs all "
            f"{scan.height} samples; keep it with --keep-oversampling and without --crop"
        )
    return coils, height, width
