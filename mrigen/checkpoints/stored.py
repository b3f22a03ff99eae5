"""Tensors as a file stores them: views of the mapped file, checked, and read only when wanted."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrigen.pickles.plain import MalformedError, Record

MAX_RANK = 8
MAX_INDEX = 1 << 48
BFLOAT16 = "bfloat16"

# torch's name of a storage class or dtype, the bytes of an element, and numpy's dtype; bfloat16, which
# numpy lacks, is read as the upper half of a float32.
DTYPES: dict[str, np.dtype[np.generic]] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    BFLOAT16: np.dtype("<u2"),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}

# What safetensors calls them.
SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": BFLOAT16,
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True)
class DType:
    """A torch dtype by name."""

    name: str


class Storage:
    """A stretch of bytes of one type; ``data`` may come after the tensors that use it."""

    __slots__ = ("count", "data", "dtype")

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = dtype
        self.count = count
        self.data: memoryview | None = None

    def fill(self, data: memoryview) -> None:
        """Attach the bytes.

        Raises:
            MalformedError: there are fewer than the storage says.
        """
        size = self.count * DTYPES[self.dtype].itemsize
        if len(data) < size:
            raise MalformedError(f"has a storage of {len(data)} bytes that should have {size}")
        self.data = data[:size]


@dataclass(frozen=True)
class StoredTensor:
    """A strided view of a storage.

    Attributes:
        storage: where the elements are.
        dtype: name of the element type.
        offset: first element.
        shape: size per dimension.
        strides: step per dimension, in elements.
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        for value in (self.offset, *self.shape, *self.strides):
            if type(value) is not int or not 0 <= value < MAX_INDEX:
                raise MalformedError("has a tensor with an absurd shape")
        if len(self.shape) != len(self.strides) or len(self.shape) > MAX_RANK:
            raise MalformedError("has a tensor whose shape and strides do not fit")
        size = self.storage.count * DTYPES[self.storage.dtype].itemsize // DTYPES[self.dtype].itemsize
        elements, last = 1, self.offset
        for count, stride in zip(self.shape, self.strides, strict=True):
            elements *= count
            last += (count - 1) * stride
        if elements and (last >= size or elements > size):
            raise MalformedError("has a tensor that reaches beyond its storage")

    @property
    def floating(self) -> bool:
        """Whether the elements are real numbers."""
        return "float" in self.dtype

    def read(self) -> NDArray[np.float32]:
        """The elements as contiguous float32; a view of the file where it stores them so.

        Raises:
            MalformedError: the file does not hold the bytes.
        """
        if self.storage.data is None:
            raise MalformedError("has a tensor whose data are missing")
        kind = DTYPES[self.dtype]
        strides = tuple(step * kind.itemsize for step in self.strides)
        if 0 in self.shape:
            return np.zeros(self.shape, np.float32)
        array = np.ndarray(self.shape, kind, self.storage.data, self.offset * kind.itemsize, strides)
        if self.dtype == BFLOAT16:
            array = (array.astype("<u4") << 16).view("<f4")
        return np.ascontiguousarray(array, np.float32)

    def release(self) -> None:
        """Take the pages of the mapped file out of memory again; a later read brings them back."""
        mapping = None if self.storage.data is None else self.storage.data.obj
        if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


class Persistent(Record):
    """An object of EDM's ``torch_utils.persistence``: class name and state, its source left unread."""

    __slots__ = ()
