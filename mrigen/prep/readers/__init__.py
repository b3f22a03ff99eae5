"""Readers of raw k-space, one file per format: which files they know, what those hold, and the data."""

from mrigen.prep.readers.base import (
    READERS,
    Choice,
    Loaded,
    Reader,
    find_reader,
    inspect,
    open_slices,
    read_kspace,
    reader_of,
    with_mask,
)

__all__ = [
    "READERS",
    "Choice",
    "Loaded",
    "Reader",
    "find_reader",
    "inspect",
    "open_slices",
    "read_kspace",
    "reader_of",
    "with_mask",
]
