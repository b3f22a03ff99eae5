"""BART's pair of files: ``.hdr`` with the dimensions as text, ``.cfl`` with complex64 in column-major order.

The sixteen dimensions are, in this order: 0 READ, 1 PHS1, 2 PHS2, 3 COIL, 4 MAPS, 5 TE, 6 COEFF, 7 COEFF2, 8
ITER, 9 CSHIFT, 10 TIME, 11 TIME2, 12 LEVEL, 13 SLICE, 14 AVG, 15 BATCH. READ is H and PHS1 is W; where READ
is 1, PHS1 is H and PHS2 is W. With all three, the volume becomes slices as ``volumes.as_slices`` says. TE,
TIME and the others are choices, averages are averaged where they were measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigen.errors import UsageError
from mrigen.files import atomic
from mrigen.prep.readers.base import READERS, Choice, Loaded, LoadedReader, pick_axes
from mrigen.prep.readers.volumes import as_mask, as_slices, combine_averages

DIMENSIONS = 16
COIL, MAPS, SLICE, AVERAGE = 3, 4, 13, 14
EXTRA = {5: "echo", 6: "coefficient", 7: "coefficient2", 8: "iteration", 9: "shift", 10: "frame",
         11: "frame2",
         12: "level", 15: "batch"}  # fmt: skip
MOST_HEADER = 1 << 16


@READERS.register("bart")
class Bart(LoadedReader):
    """k-space of BART, named by its ``.cfl``, its ``.hdr`` or without ending."""

    title = "BART cfl"
    suffixes = (".cfl", ".hdr")

    @classmethod
    def matches(cls, path: Path) -> bool:
        """A ``.cfl`` whose ``.hdr`` beside it begins as BART's do."""
        if path.suffix.lower() not in cls.suffixes:
            return False
        header, data = pair(path)
        try:
            with header.open("rb") as file:
                return file.read(12) == b"# Dimensions" and data.is_file()
        except OSError:
            return False

    def load(self, path: Path, choice: Choice) -> Loaded:
        """k-space, memory-mapped where it is two-dimensional."""
        stored = read_cfl(path)
        if stored.shape[MAPS] > 1:
            raise UsageError(
                f"{path}: has {stored.shape[MAPS]} sets of maps, so that it holds coil sensitivities, not "
                "k-space; give them as --maps"
            )
        order = [*EXTRA, SLICE, AVERAGE, COIL, 2, 0, 1]
        array = stored.transpose([*order, MAPS])[..., 0]
        array, choices = pick_axes(path, array, tuple(EXTRA.values()), choice)
        array = array.reshape(-1, *array.shape[2:])  # (slices, averages, coils, PHS2, READ, PHS1)
        averages, _, partitions, readout, _ = array.shape[1:]
        notes = (f"{averages} averages were averaged",) if averages > 1 else ()
        if partitions > 1 and readout > 1:
            if len(array) > 1:
                raise UsageError(
                    f"{path}: holds {len(array)} volumes; take one with --choose or `bart slice`"
                )
            kspace = combine_averages(array, 1, 2)[0]
            volume = as_slices(kspace, (kspace != 0).any(0))
            notes = (*notes, f"a volume: slices along the {volume.axis}")
            mask = as_mask(volume.measured)
            return Loaded.of(
                path, volume.kspace, mask=mask, complete=mask is None, choices=choices, notes=notes
            )
        plane = array[..., 0, :, :] if partitions == 1 else array[..., 0, :].swapaxes(-1, -2)
        return Loaded.of(path, combine_averages(plane, 1, 2), choices=choices, notes=notes)


def pair(path: Path) -> tuple[Path, Path]:
    """The header and the data of an array that is named by one of them, with endings in the same case."""
    endings = (".HDR", ".CFL") if path.suffix.isupper() else (".hdr", ".cfl")
    return path.with_suffix(endings[0]), path.with_suffix(endings[1])


def read_cfl(path: Path) -> NDArray[np.complex64]:
    """An array of BART with all 16 dimensions, memory-mapped.

    Raises:
        UsageError: one of the two files is missing or does not fit the other.
    """
    header, data = pair(path)
    for file in (header, data):
        if not file.is_file():
            raise UsageError(f"{file}: no such file; BART's arrays are pairs of .hdr and .cfl")
    lines = header.read_bytes()[:MOST_HEADER].decode("ascii", "replace").splitlines()
    try:
        sizes = [int(n) for n in lines[1 + lines.index("# Dimensions")].split()]
    except (ValueError, IndexError) as error:
        raise UsageError(
            f"{header}: has no line of dimensions after `# Dimensions`; write it with BART"
        ) from error
    sizes += [1] * (DIMENSIONS - len(sizes))
    total = int(np.prod(sizes, dtype=object))
    if len(sizes) > DIMENSIONS or min(sizes) < 1 or 8 * total != data.stat().st_size:
        raise UsageError(
            f"{data}: has {data.stat().st_size} bytes where {header.name} declares "
            f"{' x '.join(map(str, sizes))} complex64; copy both files again"
        )
    return np.memmap(data, np.complex64, "r", shape=tuple(sizes), order="F")


def write_cfl(path: Path, array: NDArray[Any]) -> None:
    """Write an array as BART's pair of files, of up to 16 dimensions.

    Args:
        path: ending in ``.cfl``.
        array: complex, dimension i of it is BART's dimension i.
    """
    sizes = " ".join(map(str, [*array.shape, *[1] * (DIMENSIONS - array.ndim)]))
    with atomic(path.with_suffix(".hdr")) as temporary:
        temporary.write_text(f"# Dimensions\n{sizes}\n")
    with atomic(path.with_suffix(".cfl")) as temporary, temporary.open("wb") as file:
        file.write(np.asarray(array, np.complex64).tobytes("F"))
