"""Image files, archives and Python 2's pickles made for tests."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def random_pictures(count: int, height: int = 12, width: int = 16, channels: int = 3) -> np.ndarray:
    """uint8 (count, height, width, channels), or without the last axis for one channel."""
    shape = (count, height, width) if channels == 1 else (count, height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def write_folder(folder: Path, pictures: np.ndarray, prefix: str = "") -> Path:
    """``000.png`` and so on below a folder."""
    for i, picture in enumerate(pictures):
        path = folder / f"{prefix}{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture))
    return folder


def write_zip(path: Path, members: dict[str, bytes], labels: list | None = None) -> Path:
    """A zip archive, with EDM's ``dataset.json`` where there are labels."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if labels is not None:
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


def python2_batch(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as CIFAR-10's were pickled: protocol 2, text and bytes as Python 2's strings."""

    def string(text: bytes) -> bytes:
        short = len(text) < 256
        return (b"U" + bytes([len(text)]) if short else b"T" + struct.pack("<i", len(text))) + text

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = b"cnumpy\ndtype\n(" + string(b"u1") + number(0) + number(1) + b"tR"
    dtype += b"(" + number(3) + string(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + string(b"b") + b"tR"
    )
    shape = b"(" + b"".join(number(n) for n in data.shape) + b"t"
    array += b"(" + number(1) + shape + dtype + b"\x89" + string(data.tobytes()) + b"tb"
    classes = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(" + string(b"data") + array + string(b"labels") + classes + b"u."


def python3_batch(data: np.ndarray, labels: list[int]) -> bytes:
    """The same by Python 3."""
    return pickle.dumps({"data": data, "labels": labels}, protocol=2)


def write_tar(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """A compressed tar archive of files and symbolic links."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path
