"""Readers of raw k-space, one file per format: which files they know, what those hold, and the data."""

from mrigen.prep.readers.base import READERS, Choice, Reader, find_reader, inspect, open_slices, reader_of

__all__ = ["READERS", "Choice", "Reader", "find_reader", "inspect", "open_slices", "reader_of"]
