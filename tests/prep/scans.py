"""fastMRI files made from any k-space, and stores read back."""

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mrigen.prep import ismrmrd


def arguments(options: dict[str, Any]) -> list[str]:
    """Command-line arguments: True is a flag, None leaves the option out."""
    found = []
    for name, value in options.items():
        if value is None:
            continue
        found.append("--" + name.replace("_", "-"))
        if value is not True:
            found += [str(v) for v in (value if isinstance(value, tuple) else (value,))]
    return found


def write_scan(path: Path, kspace: np.ndarray, **extra: Any) -> Path:
    """A fastMRI file; ``extra`` are more datasets, and ``attributes``."""
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file.attrs.update(extra.pop("attributes", {}))
        for name, data in extra.items():
            file[name] = data
    return path


def header(height: int, width: int, *, padded: int = 0, oversampling: int = 1) -> bytes:
    """The XML header of a scan of ``height`` x ``width``."""
    fov = (200.0, 200.0, 5.0)
    return ismrmrd.write(
        ismrmrd.Header(
            encoded_matrix=(height, width, 1),
            recon_matrix=(height // oversampling, width, 1),
            encoded_fov=(oversampling * fov[0], *fov[1:]),
            recon_fov=fov,
            centre=width // 2 - padded,
            maximum=width - 2 * padded - 1,
            field_strength=3.0,
            tr_ms=500.0,
            te_ms=10.0,
            ti_ms=0.0,
            flip_angle_deg=70.0,
        ),
        {},
    )


def dense(folder: Path, name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays of a volume file, and its k-space with zeros where nothing was measured."""
    with h5py.File(folder / name, locking=False) as file:
        arrays = {key: file[key][()] for key in file if key != "record"}
    slices, coils, height, width = arrays["maps"].shape
    kspace = np.zeros((slices, coils, height, width), np.complex64)
    for row, mask in enumerate(arrays["mask"]):
        full = np.broadcast_to(mask, (height, width))
        kspace[row][:, full] = arrays["samples"][row][:, : full.sum()]
    return arrays, kspace


def noise(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Complex noise of standard deviation 1 per real component."""
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)


def centred_fft(image: np.ndarray, axes: tuple[int, ...] = (-2, -1)) -> np.ndarray:
    """The field's transform by numpy, in double precision."""
    shifted = np.fft.ifftshift(image, axes=axes)
    return np.fft.fftshift(np.fft.fftn(shifted, axes=axes, norm="ortho"), axes=axes)


def centred_ifft(kspace: np.ndarray, axes: tuple[int, ...] = (-2, -1)) -> np.ndarray:
    """Inverse of ``centred_fft``."""
    shifted = np.fft.ifftshift(kspace, axes=axes)
    return np.fft.fftshift(np.fft.ifftn(shifted, axes=axes, norm="ortho"), axes=axes)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
