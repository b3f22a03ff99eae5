"""fastMRI's HDF5 layout: ``kspace`` (slices, coils, H, W), ISMRMRD header, attributes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from mrigen.prep import fastmri_read
from mrigen.prep.fastmri_read import ReadSlices, Scan
from mrigen.prep.readers import signatures
from mrigen.prep.readers.base import READERS, Choice, Reader


@READERS.register("fastmri")
class FastMRI(Reader):
    """fastMRI's knee and brain volumes, M4Raw's, and what ``mrigen simulate`` writes.

    A repetition of M4Raw is a file of its own, with one letter for the contrast and two digits for the
    repetition at the end of its name.
    """

    title = "fastMRI HDF5"
    suffixes = (".h5", ".hdf5")

    @classmethod
    def matches(cls, path: Path) -> bool:
        """A complex dataset ``kspace`` of three or four axes."""
        shape, dtype = signatures.layout(path).get("kspace", ((), None))
        return (
            signatures.kind(path) == "HDF5"
            and len(shape) in {3, 4}
            and dtype is not None
            and dtype.kind == "c"
        )

    def inspect(self, path: Path, choice: Choice) -> Scan:
        """Its declarations; where the slices lie in the patient is not among them."""
        choice.of(path, {})
        scan = fastmri_read.inspect(path)
        return replace(scan, notes=(*scan.notes, "fastMRI files do not say where the patient lay"))

    def open(self, scan: Scan, choice: Choice) -> AbstractContextManager[ReadSlices]:
        """Its k-space."""
        del choice
        return fastmri_read.open_slices(scan)
