"""What a file is, by its first bytes and, for HDF5, by the names and shapes of its datasets."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from mrigen import hdf5

HEAD = 20000
PREFIXES = {
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"MATLAB 5.0 MAT-file": "MATLAB 5",
    b"MATLAB 7.3 MAT-file": "MATLAB 7.3",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"\x89PNG": "PNG picture",
    b"\xff\xd8\xff": "JPEG picture",
    b"GIF8": "GIF picture",
    b"BM": "BMP picture",
    b"II*\x00": "TIFF picture",
    b"MM\x00*": "TIFF picture",
    b"%PDF": "PDF document",
    b"\x80\x02": "Python pickle",
    b"\x80\x03": "Python pickle",
    b"\x80\x04": "Python pickle",
    b"PAR-2 ": "Philips",
}
NIFTI = (348, 540)
Layout = dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]


def kind(path: Path) -> str:
    """A word for what a file is: ``HDF5``, ``MATLAB 7.3``, ``Siemens raw data``, ``DICOM`` ... or nothing.

    Files that cannot be read are nothing.
    """
    try:
        status = path.stat()
        return _kind(path, status.st_mtime_ns, status.st_size) if path.is_file() else ""
    except OSError:
        return ""


@lru_cache(maxsize=256)
def _kind(path: Path, modified: int, size: int) -> str:
    del modified
    with path.open("rb") as file:
        head = file.read(HEAD)
    for prefix, name in PREFIXES.items():
        if head.startswith(prefix):
            return name
    if head[128:132] == b"DICM":
        return "DICOM"
    if b"\x89HDF\r\n\x1a\n" in (head[o : o + 8] for o in (512, 1024, 2048, 4096)):
        return "HDF5"
    if len(head) >= 4 and int.from_bytes(head[:4], "little") in NIFTI and head[344:347] in {b"n+1", b"ni1"}:
        return "NIfTI"
    if _siemens(head, size):
        return "Siemens raw data"
    return ""


def _siemens(head: bytes, size: int) -> bool:
    """Whether the lengths at the beginning are those of Siemens raw data of VB, or of VD, VE and XA."""
    if len(head) < 40 or size < 1024:
        return False
    first, second = struct.unpack("<II", head[:8])
    if first == 0 and 1 <= second <= 64:  # a multi-RAID file: number of measurements
        _, _, offset, length = struct.unpack("<IIQQ", head[8:32])
        return bool(10240 <= offset < size and 0 < length <= size)
    named = head[8:20].isascii() and head[8:16].split(b"\0")[0].isalpha()
    return bool(1024 <= first < size and 1 <= second <= 32 and named)


def layout(path: Path) -> Layout:
    """Shapes and types of the datasets that an HDF5 file keeps at its root; empty for other files."""
    if kind(path) not in {"HDF5", "MATLAB 7.3"}:
        return {}
    try:
        status = path.stat()
        return _layout(path, status.st_mtime_ns, status.st_size)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        return {}


@lru_cache(maxsize=64)
def _layout(path: Path, modified: int, size: int) -> Layout:
    del modified, size
    layout: Layout = {}
    with hdf5.reader(path) as file:
        for name in file:
            if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(
                file[name], h5py.Dataset
            ):
                layout[name] = (tuple(file[name].shape or ()), file[name].dtype)
    return layout


def groups(path: Path) -> list[str]:
    """Names of the groups at the root of an HDF5 file."""
    if kind(path) != "HDF5":
        return []
    try:
        with hdf5.reader(path) as file:
            links = (n for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink))
            return [n for n in links if isinstance(file[n], h5py.Group)]
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        return []


def describe(path: Path) -> str:
    """What a file is, in words for a message."""
    what = kind(path)
    if what in {"HDF5", "MATLAB 7.3"}:
        names = ", ".join(f"{n} {s}" for n, (s, _) in list(layout(path).items())[:6])
        inside = names or ", ".join(groups(path)[:6]) or "nothing that can be read"
        return f"{'an HDF5' if what == 'HDF5' else 'a MATLAB 7.3'} file with {inside}"
    if what == "Philips" or path.suffix.lower() in {".lab", ".raw", ".sin", ".par", ".rec", ".list"}:
        return "Philips data"
    if path.suffix.lower() in {".7", ".p"} or (path.name.startswith("P") and path.suffix == ".7"):
        return "a GE P-file"
    if path.name.lower() in {"fid", "ser", "rawdata.job0"}:
        return "Bruker or Agilent raw data"
    if what:
        return f"{'an' if what[0] in 'AEIOUNM' and what == 'npy' else 'a'} {what} file"
    return "a file of no format that mrigen knows"
