"""CIFAR-10's own archive, ``cifar-10-python.tar.gz``, or the folder that it unpacks to.

The batches are pickles of Python 2. They are read by the project's own machine, which builds plain
data and calls nothing that the file names; the archive is never unpacked to disk.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mrigen.data.pixels import ImageError
from mrigen.errors import UsageError
from mrigen.pickles.machine import Machine
from mrigen.pickles.plain import Budget, Builder, MalformedError, Record
from mrigen.prep.images.base import ArraySet, Item, read_limited

BATCHES = {**{f"data_batch_{i}": "train" for i in range(1, 6)}, "test_batch": "test"}
SIDE, COLOURS, CLASSES = 32, 3, 10
PIXELS = COLOURS * SIDE * SIDE


class _Array(Record):
    """A numpy array of bytes as a pickle describes it: (version, shape, dtype, Fortran order, content)."""

    __slots__ = ("values",)

    def set_state(self, state: object) -> None:
        """Take shape, type and content.

        Raises:
            MalformedError: not a C-ordered array of bytes of the size that it declares.
        """
        if not isinstance(state, tuple) or len(state) != 5:
            raise MalformedError("has an array without shape and content")
        _, shape, dtype, fortran, content = state
        kind = dtype.state.get("arguments", ())[:1] if isinstance(dtype, Record) else ()
        data = content.encode("latin-1") if isinstance(content, str) else content
        sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if kind not in {("u1",), ("|u1",)} or fortran or not sizes:
            raise MalformedError("has an array that is not made of bytes row by row")
        if not isinstance(data, bytes | memoryview) or len(data) != int(np.prod(shape)):
            raise MalformedError("has an array whose content is not of its size")
        self.values: NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(shape)


def _text(value: object, encoding: object = "latin1") -> bytes:
    if not isinstance(value, str) or encoding not in {"latin1", "latin-1"}:
        raise MalformedError("encodes bytes in an unknown way")
    return value.encode("latin-1")


def _dtype(*arguments: object) -> Record:
    return Record("dtype", {"arguments": tuple(_key(a) for a in arguments)})


def _key(value: object) -> object:
    return bytes(value).decode("latin-1") if isinstance(value, bytes | memoryview) else value


NAMES: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): Builder("array", lambda *_: _Array("ndarray")),
    ("numpy._core.multiarray", "_reconstruct"): Builder("array", lambda *_: _Array("ndarray")),
    ("numpy", "ndarray"): Builder("ndarray", lambda *_: None),
    ("numpy", "dtype"): Builder("dtype", _dtype),
    ("_codecs", "encode"): Builder("bytes", _text),
}


@dataclass(frozen=True, eq=False)
class CifarSet(ArraySet):
    """CIFAR-10's 60,000 colour images of 32 x 32 pixels, in memory (176 MiB); parts train and test."""

    kind: ClassVar[str] = "cifar10"

    @classmethod
    def open(cls, source: Path, *, labels: bool) -> CifarSet:
        """Read the batches.

        Raises:
            UsageError: damaged, or not CIFAR-10.
        """
        items, pixels = [], []
        try:
            for name, content in sorted(_batches(source)):
                images, classes = _batch(content)
                pixels.append(images)
                items += [
                    Item(f"{name}/{i:05d}", BATCHES[name], label if labels else None)
                    for i, label in enumerate(classes)
                ]
        except (tarfile.TarError, OSError, EOFError, ValueError, ImageError, MalformedError) as error:
            raise UsageError(
                f"{source}: not CIFAR-10 as it is published ({error}); fetch it again"
            ) from error
        if not items:
            raise UsageError(
                f"{source}: is no archive of CIFAR-10 (it holds no data_batch_1); unpack other archives "
                f"(tar -xf {source.name}) and give the folder"
            )
        return cls(source, items, 0, np.concatenate(pixels))


def looks_like(source: Path) -> bool:
    """Whether a path is CIFAR-10's archive or folder."""
    if source.is_dir():
        return (source / "data_batch_1").is_file()
    return source.name.endswith((".tar.gz", ".tgz", ".tar"))


def _batches(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for name in BATCHES:
            path = source / name
            if path.is_file():
                with path.open("rb") as file:
                    yield name, read_limited(file, path.stat().st_size)
        return
    found = set()
    with tarfile.open(source) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name not in BATCHES:
                continue
            inside = archive.extractfile(member) if member.isreg() else None
            if inside is None or name in found:
                raise ImageError(f"{name} is a link or is there twice")
            found.add(name)
            yield name, read_limited(inside, member.size)


def _batch(content: bytes) -> tuple[NDArray[np.uint8], list[int]]:
    """Images (n, 32, 32, 3) and classes of a batch."""
    tree: Any = Machine(memoryview(content), NAMES, Budget()).load()
    if not isinstance(tree, dict):
        raise MalformedError("holds no dictionary")
    known = {_key(key): value for key, value in tree.items()}
    data, labels = known.get("data"), known.get("labels")
    values = getattr(data, "values", None) if isinstance(data, _Array) else None
    if values is None or values.shape[1:] != (PIXELS,):
        raise MalformedError("has no rows of 3072 bytes")
    told: list[Any] = labels if isinstance(labels, list) and len(labels) == len(values) else [None]
    if not all(type(label) is int and 0 <= label < CLASSES for label in told):
        raise MalformedError("has no label from 0 to 9 for each image")
    return values.reshape(-1, COLOURS, SIDE, SIDE).transpose(0, 2, 3, 1).copy(), told
