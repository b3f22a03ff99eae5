"""HDF5 files, opened so that many processes and network file systems get along.

HDF5 locks a file that it opens. Locks are not needed here: a file is written under a name that nobody
else knows and gets its own name when it is complete (``files.atomic``), and never changes afterwards. They
do harm, too: some network file systems have none, and opening fails; on others a reader's lock keeps
another program from replacing the file. So no file is locked, for reading or for writing, and nothing is
written into a folder that is only read.

Equal arrays give equal bytes: chunks go to the file when they are written, not when their dataset is closed,
which a profiler or debugger that looks at the program's frames puts off.

HDF5 is not told that a disk is full: it loses data without a word or crashes the program when it cannot write
what is left of a file or dataset that it closes. The failure is noted and raised when the file is closed.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from mrigen.errors import UsageError
from mrigen.files import atomic

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


FILTERS = {
    307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32013: "ZFP",
    32015: "Zstandard", 32017: "SZ", 32026: "Blosc2", 32029: "FCIDECOMP",
}  # fmt: skip


def require_filters(dataset: h5py.Dataset, path: Path) -> None:
    """Refuse a dataset whose compression this installation cannot undo.

    ``hdf5plugin`` brings the filters along and is imported where it is installed.

    Args:
        dataset: any dataset.
        path: of its file, for the message.

    Raises:
        UsageError: names the filter and what to install.
    """
    plist = dataset.id.get_create_plist()
    for number in (plist.get_filter(i)[0] for i in range(plist.get_nfilters())):
        if not h5py.h5z.filter_avail(number) and importlib.util.find_spec("hdf5plugin") is not None:
            importlib.import_module("hdf5plugin")
        if not h5py.h5z.filter_avail(number):
            name = FILTERS.get(number, "a filter")
            raise UsageError(
                f"{path}: `{dataset.name.lstrip('/')}` is compressed with {name} (HDF5 filter {number}), "
                "which is not installed: pip install hdf5plugin, or repack the file with h5repack"
            )


def reader(path: Path) -> h5py.File:
    """Open a file for reading, without a lock.

    Raises:
        OSError: it is no HDF5 file or cannot be read.
    """
    return h5py.File(path, "r", locking=False)


class _Disk(io.FileIO):
    """A file that swallows what cannot be written.

    Attributes:
        failure: why, or None.
    """

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """All of the bytes, or none any more."""
        left = memoryview(data).cast("B")
        count = len(left)
        while left and self.failure is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.failure = error
        return count

    def truncate(self, size: int | None = None, /) -> int:
        """A file of that size, unless something is missing already."""
        if self.failure is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.failure = error
        return size or 0


@contextmanager
def writer(path: Path) -> Iterator[h5py.File]:
    """Write a file, without a lock and by whole chunks; it appears, complete, when the block ends well.

    Raises:
        OSError: it cannot be written.
    """
    with atomic(path) as temporary, _Disk(temporary, "w+") as disk:
        try:
            with h5py.File(disk, "w", locking=False, rdcc_nbytes=0) as file:
                yield file
        finally:
            if disk.failure is not None:
                raise disk.failure
