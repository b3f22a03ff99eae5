"""k-space in MATLAB files, version 4 and 5 (scipy) and 7.3 (HDF5).

MATLAB's axes, first to last, are (H, W), (H, W, coils), (H, W, coils, slices) or (H, W, coils, slices,
frames), as CMRxRecon keeps them: (kx, ky, coils, slices, frames or contrasts). Version 7.3 stores them
reversed, and complex numbers as pairs of ``real`` and ``imag``. Single-coil arrays of CMRxRecon have no
axis of coils: their names hold ``single``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrigen import hdf5
from mrigen.errors import UsageError
from mrigen.prep.readers import signatures
from mrigen.prep.readers.base import READERS, Choice, Loaded, LoadedReader, pick_axes
from mrigen.prep.scan import MASKS

AXES = "(H, W), (H, W, coils), (H, W, coils, slices) or (H, W, coils, slices, frames)"
HDF5 = {"HDF5", "MATLAB 7.3"}
MOST_BYTES = 1 << 36
Array = NDArray[Any]


@READERS.register("matlab")
class Matlab(LoadedReader):
    """Complex arrays of MATLAB, DC in the centre; ``mask`` beside them is used."""

    title = "MATLAB"
    suffixes = (".mat",)

    @classmethod
    def matches(cls, path: Path) -> bool:
        """MATLAB's text at the beginning of the file."""
        return signatures.kind(path) in {"MATLAB 5", "MATLAB 7.3"}

    def load(self, path: Path, choice: Choice) -> Loaded:
        """The complex array whose name begins with ``k``, or the only complex one."""
        arrays = _version_7_3(path) if signatures.kind(path) in HDF5 else _version_5(path)
        name = _name(path, {n: a for n, a in arrays.items() if a.dtype.kind == "c"}, arrays)
        array = arrays[name]
        if "single" in name.lower() and array.ndim > 2:
            array = array[:, :, None]
        if not 2 <= array.ndim <= 5 or not array.size:
            raise UsageError(f"{path}: {name} has shape {array.shape}; it must be {AXES}")
        array = array.reshape(array.shape + (1,) * (5 - array.ndim))
        kspace, choices = pick_axes(path, array.transpose(4, 3, 2, 0, 1), ("frame",), choice)
        kspace = kspace.reshape(-1, *kspace.shape[2:])
        mask = next((arrays[name].squeeze() for name in MASKS if name in arrays), None)
        if mask is not None and mask.ndim > 2:
            mask = mask.transpose(*range(mask.ndim - 1, 1, -1), 0, 1)
        return Loaded.of(path, kspace, mask=mask, choices=choices, notes=(f"array {name}",))


def _name(path: Path, complex_ones: dict[str, Array], arrays: dict[str, Array]) -> str:
    """Which of the arrays is k-space.

    Raises:
        UsageError: none, or several alike; arrays in a struct are not looked for.
    """
    named = [n for n in complex_ones if n.lower().startswith(("k", "raw"))] or list(complex_ones)
    if len(named) == 1:
        return named[0]
    there = ", ".join(f"{n} {a.shape}" for n, a in list(arrays.items())[:8]) or "no arrays"
    if not named:
        raise UsageError(
            f"{path}: holds {there}, none of them complex; save k-space as a complex array `kspace`, "
            "not in a struct"
        )
    if "kspace" in named:
        return "kspace"
    raise UsageError(f"{path}: holds {there}; call the k-space `kspace`, or save it on its own")


def _version_5(path: Path) -> dict[str, Array]:
    from scipy.io import loadmat, whosmat

    try:
        names = [name for name, shape, kind in whosmat(str(path)) if kind not in {"struct", "cell", "object"}]
        contents = loadmat(str(path), variable_names=names)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: damaged, cannot be read ({reason}); copy the file again") from error
    return {
        n: np.asarray(contents[n])
        for n in names
        if n in contents and np.asarray(contents[n]).dtype.kind in "cfiub"
    }


def _version_7_3(path: Path) -> dict[str, Array]:
    """Numeric arrays with MATLAB's own order of axes."""
    arrays: dict[str, Array] = {}
    try:
        with hdf5.reader(path) as file:
            for name in file:
                if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                    continue
                stored = file[name]
                if not isinstance(stored, h5py.Dataset) or stored.is_virtual or stored.external:
                    continue
                if stored.nbytes > MOST_BYTES:
                    raise UsageError(f"{path}: {name} needs {stored.nbytes >> 30} GiB; save a part of it")
                pair = stored.dtype.names == ("real", "imag")
                if pair or stored.dtype.kind in "cfiub":
                    values = stored[()]
                    arrays[name] = (values["real"] + np.complex64(1j) * values["imag"] if pair else values).T
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: damaged, cannot be read ({reason}); copy the file again") from error
    return arrays
