"""HDF5 files, opened so that many processes and network file systems get along.

HDF5 locks a file that it opens. Locks are not needed here: a file is written under a name that nobody
else knows and gets its own name when it is complete (``files.atomic``), and never changes afterwards. They
do harm, too: some network file systems have none, and opening fails; on others a reader's lock keeps
another program from replacing the file. So no file is locked, for reading or for writing, and nothing is
written into a folder that is only read.

Equal arrays give equal bytes: chunks go to the file when they are written, not when their dataset is closed,
which a profiler or debugger that looks at the program's frames puts off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from mrigen.files import atomic


def reader(path: Path) -> h5py.File:
    """Open a file for reading, without a lock.

    Raises:
        OSError: it is no HDF5 file or cannot be read.
    """
    return h5py.File(path, "r", locking=False)


@contextmanager
def writer(path: Path) -> Iterator[h5py.File]:
    """Write a file, without a lock and by whole chunks; it appears, complete, when the block ends well."""
    with atomic(path) as temporary, h5py.File(temporary, "w", locking=False, rdcc_nbytes=0) as file:
        yield file
