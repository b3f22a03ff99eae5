"""CIFAR-10's own archive, ``cifar-10-python.tar.gz``, or the folder that it unpacks to.

The batches are pickles of Python 2. They are read by the project's own machine, which builds plain
data and calls nothing that the file names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mrigen.data.archives import Files
from mrigen.data.pixels import ImageError
from mrigen.errors import UsageError
from mrigen.pickles.machine import Machine
from mrigen.pickles.plain import Budget, Builder, MalformedError, Record
from mrigen.prep.images.base import ArraySet, Item

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
    def of(cls, files: Files, *, labels: bool) -> CifarSet:
        """Read the batches.

        Raises:
            UsageError: damaged, or not CIFAR-10.
        """
        items, pixels = [], []
        try:
            for name, content in sorted(_batches(files)):
                images, classes = _batch(content)
                pixels.append(images)
                items += [
                    Item(f"{name}/{i:05d}", BATCHES[name], label if labels else None)
                    for i, label in enumerate(classes)
                ]
        except (ValueError, ImageError, MalformedError) as error:
            raise UsageError(
                f"{files.path}: not CIFAR-10 as it is published ({error}); fetch it again"
            ) from error
        return cls(files.path, items, 0, np.concatenate(pixels))


def is_batch(name: str) -> bool:
    """Whether a file is a batch of CIFAR-10."""
    return PurePosixPath(name).name in BATCHES


def _batches(files: Files) -> Iterator[tuple[str, bytes]]:
    """The batches by their names without folders.

    Raises:
        ImageError: one is there twice, or cannot be read.
    """
    seen = set()
    for place in filter(is_batch, files.places):
        name = PurePosixPath(place).name
        if name in seen:
            raise ImageError(f"{name} is there twice")
        seen.add(name)
        yield name, files.read(place)


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
    class_numbers: list[Any] = labels if isinstance(labels, list) and len(labels) == len(values) else [None]
    if not all(type(label) is int and 0 <= label < CLASSES for label in class_numbers):
        raise MalformedError("has no label from 0 to 9 for each image")
    return values.reshape(-1, COLOURS, SIDE, SIDE).transpose(0, 2, 3, 1).copy(), class_numbers
