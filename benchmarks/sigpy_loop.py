"""The preparation as one writes it by hand with sigpy: a loop over volumes and slices.

    python -m benchmarks.sigpy_loop RAW OUT --acceleration 4 --acs-lines 24 --virtual-coils 4

Whitening, readout crop, undersampling, coil compression, ESPIRiT, scale and writing, as ``mrigen prep-fastmri
--no-references`` does them, for fully sampled volumes with twofold readout oversampling; it leaves out what
only mrigen reports (how far data and model are apart), checksums and the manifest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np
import sigpy as sp
from benchmarks.arguments import existing, positive, whole
from numpy.typing import NDArray
from sigpy.mri.app import EspiritCalib

Array = NDArray[np.complex64]
CORNER, PROBED = 30, 2


def crop_readout(kspace: Array) -> Array:
    """k-space of the middle half of the image along the readout."""
    image = sp.ifft(kspace, axes=[-2])
    return sp.fft(sp.resize(image, (*kspace.shape[:-2], kspace.shape[-2] // 2, kspace.shape[-1])), axes=[-2])


def whitening(kspace: h5py.Dataset) -> Array:
    """Inverse Cholesky factor of the noise covariance in an image corner."""
    probe = kspace[:: -(-len(kspace) // PROBED)]
    corner = sp.ifft(probe, axes=[-2, -1])[..., :CORNER, :CORNER]
    noise = np.moveaxis(corner, 1, 0).reshape(probe.shape[1], -1).astype(np.complex128)
    covariance = noise @ noise.conj().T / noise.shape[1] / 2
    return np.linalg.inv(np.linalg.cholesky(covariance)).astype(np.complex64)


def mix(matrix: Array, kspace: Array) -> Array:
    """Linear combinations of coils."""
    return (matrix @ kspace.reshape(len(kspace), -1)).reshape(len(matrix), *kspace.shape[1:])


def draw_lines(
    width: int, acceleration: float, centre: slice, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Exactly width / acceleration lines, the centre among them."""
    mask = np.zeros(width, bool)
    mask[centre] = True
    others = np.flatnonzero(~mask)
    mask[random.choice(others, int(width / acceleration) - mask.sum(), replace=False)] = True
    return mask


def prepare(path: Path, out: Path, acceleration: float, acs_lines: int, virtual_coils: int) -> None:
    """One volume."""
    random = np.random.default_rng(0)
    with h5py.File(path, "r") as file, h5py.File(out / path.name, "w") as store:
        kspace = file["kspace"]
        matrix = whitening(kspace)
        for number in range(len(kspace)):
            lines = crop_readout(mix(matrix, kspace[number]))
            width = lines.shape[-1]
            first = width // 2 - acs_lines // 2
            centre = slice(first, first + acs_lines)
            mask = draw_lines(width, acceleration, centre, random)
            measured = lines * mask
            if virtual_coils:
                acs = measured[..., centre].reshape(len(lines), -1)
                basis = np.linalg.svd(acs, full_matrices=False)[0][:, :virtual_coils]
                measured = mix(basis.conj().T, measured)
            maps = EspiritCalib(measured, calib_width=acs_lines, crop=0, show_pbar=False).run()
            middle = np.zeros(width, bool)
            middle[centre] = True
            image = sp.ifft(measured * middle, axes=[-2, -1])
            scale = np.quantile(np.sqrt((np.abs(image) ** 2).sum(0)), 0.99)
            arrays = {"samples": (measured / scale)[..., mask], "mask": mask, "maps": maps, "scale": scale}
            for name, array in arrays.items():
                store[f"{number}/{name}"] = array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=existing)
    parser.add_argument("out", type=Path)
    parser.add_argument("--acceleration", type=positive, default=4.0)
    parser.add_argument("--acs-lines", type=whole, default=24)
    parser.add_argument("--virtual-coils", type=whole, default=4)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    for path in sorted(options.raw.glob("*.h5")):
        prepare(path, options.out, options.acceleration, options.acs_lines, options.virtual_coils)


if __name__ == "__main__":
    main()
