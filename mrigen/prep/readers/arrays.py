"""k-space in numpy files: (coils, H, W) or (slices, coils, H, W); in ``.npz`` with its mask."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.prep.readers import signatures
from mrigen.prep.readers.base import READERS, Choice, Loaded, LoadedReader
from mrigen.prep.scan import MASKS, one_slice


@READERS.register("numpy")
class NumpyArray(LoadedReader):
    """Arrays of numpy, DC in the centre."""

    title = "numpy array"
    suffixes = (".npy", ".npz")

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Numpy's magic number, or an archive that ends in ``.npz``."""
        what = signatures.kind(path)
        return what == "npy" or (what == "zip" and path.suffix.lower() == ".npz")

    def load(self, path: Path, choice: Choice) -> Loaded:
        """The array that is called ``kspace``, or the only complex one, and its mask."""
        choice.of(path, {})
        kspace, mask, notes = read_arrays(path)
        return Loaded.of(path, kspace, mask=mask, notes=notes)


def read_arrays(path: Path) -> tuple[NDArray[np.complex64], NDArray[Any] | None, tuple[str, ...]]:
    """k-space (slices, coils, H, W), the mask beside it or None, and notes.

    Raises:
        UsageError: not an array of k-space.
    """
    arrays = _load(path)
    masks = [name for name in MASKS if name in arrays and len(arrays) > 1]
    mask = arrays.pop(masks[0]) if masks else None
    complex_ones = [n for n, a in arrays.items() if a.dtype.kind == "c"]
    name = (
        "kspace" if "kspace" in arrays else complex_ones[0] if len(complex_ones) == 1 else next(iter(arrays))
    )
    array = arrays[name]
    if len(complex_ones) > 1 and name != "kspace":
        raise UsageError(f"{path}: holds {', '.join(arrays)}; call the array `kspace`")
    if array.dtype.kind != "c":
        raise UsageError(f"{path}: holds {array.dtype}, not complex k-space; save complex64")
    if array.ndim not in {3, 4} or not array.size:
        raise UsageError(
            f"{path}: k-space has shape {array.shape}; it must be (coils, H, W) or (slices, coils, H, W)"
        )
    with np.errstate(over="ignore"):
        kspace = np.ascontiguousarray(array.reshape(-1, *array.shape[-3:]), np.complex64)
    return kspace, mask, (one_slice(array.shape[0]),) if array.ndim == 3 and array.shape[0] > 1 else ()


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            contents = np.load(file, allow_pickle=False)
            return dict(contents) if isinstance(contents, np.lib.npyio.NpzFile) else {"kspace": contents}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not a readable numpy file ({reason}); save it with numpy.save") from error
