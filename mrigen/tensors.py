"""Tensors: records of them, copies on devices, numpy arrays in their place, and white noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.errors import UsageError

ArrayLike = Tensor | NDArray[Any]
"""A tensor, or a numpy array that is taken as one."""
COMPLEX_OF = {torch.float32: torch.complex64, torch.float64: torch.complex128}
KEYS = 1 << 62
R = TypeVar("R", bound="TensorRecord")


class TensorRecord:
    """Mixin for frozen dataclasses of tensors: move or cast every tensor at once."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Dataclasses would print the values of every tensor; records print shapes."""
        super().__init_subclass__(**options)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = TensorRecord.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = ", ".join(f"{f.name}={_shown(getattr(self, f.name))}" for f in fields)
        return f"{type(self).__name__}({values})"

    def __len__(self) -> int:
        return batch_size(self)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Self:
        """The record of some samples; of an index that is one number, a batch of one.

        Raises:
            IndexError: there is no such sample.
        """
        count = batch_size(self)
        if isinstance(index, slice):
            chosen = list(range(count)[index])
        elif isinstance(index, int | np.integer):
            if not -count <= index < count:
                raise IndexError(f"there is no sample {index}, there are {count}")
            chosen = [range(count)[index]]
        else:
            numbers = torch.as_tensor(index)
            if numbers.dtype == torch.bool:
                if tuple(numbers.shape) != (count,):
                    raise IndexError(f"{tuple(numbers.shape)} flags do not choose among {count} samples")
                numbers = numbers.nonzero().flatten()
            chosen = [range(count)[int(number)] for number in numbers]
        if not chosen:
            raise IndexError(f"no sample of {count} is left; choose at least one")
        return self.cat([self.select(number) for number in chosen], [1] * len(chosen))

    def to(
        self,
        device: torch.device | str | None = None,
        *,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> Self:
        """Copy on ``device`` and in the precision of ``dtype``; complex tensors stay complex.

        Args:
            device: target device.
            dtype: real dtype, ``torch.float32`` or ``torch.float64``; masks and indices keep theirs.
            non_blocking: do not wait for copies from pinned memory.
        """

        def move(value: Tensor) -> Tensor:
            if dtype is None or not (value.is_floating_point() or value.is_complex()):
                return value.to(device=device, non_blocking=non_blocking)
            kind = COMPLEX_OF[dtype] if value.is_complex() else dtype
            return value.to(device=device, dtype=kind, non_blocking=non_blocking)

        return self.map(move)

    def to_device(self, device: torch.device) -> Self:
        """Copy on a device, see ``to_device``."""
        return self.map(lambda value: to_device(value, device))

    def pin_memory(self) -> Self:
        """Copy in memory that a GPU can fetch from on its own."""
        return self.map(lambda value: value.contiguous().pin_memory())

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Copy with every tensor changed, those of records in it too."""

        def changed(value: object) -> object:
            if isinstance(value, TensorRecord):
                return value.map(change)
            return change(value) if isinstance(value, Tensor) else value

        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return self.replaced({f.name: changed(getattr(self, f.name)) for f in fields})

    def replaced(self, values: Mapping[str, object]) -> Self:
        """The record with other values in its fields; an ``__init__`` that checks them may be skipped."""
        return dataclasses.replace(self, **values)  # type: ignore[type-var]

    @classmethod
    def cat(cls, records: Sequence[Self], sizes: Sequence[int]) -> Self:
        """One record of the samples of several; ``sizes`` counts the samples of each."""
        joined: dict[str, object] = {}
        for field in dataclasses.fields(records[0]):  # type: ignore[arg-type]
            values = [getattr(record, field.name) for record in records]
            joined[field.name] = _joined(field.name, values, sizes)
        return records[0].replaced(joined)

    def select(self, index: int) -> Self:
        """The record of one sample: tensors with a leading axis of 1, what all samples share included."""

        def one(value: object) -> object:
            if isinstance(value, TensorRecord):
                return value.select(index)
            return value[min(index, len(value) - 1)][None] if isinstance(value, Tensor) else value

        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return self.replaced({f.name: one(getattr(self, f.name)) for f in fields})


def _joined(name: str, values: list[Any], sizes: Sequence[int]) -> object:
    """One field of several records."""
    if isinstance(values[0], Tensor):
        pairs = zip(values, sizes, strict=True)
        return torch.cat([v.expand(n, *v.shape[1:]) if len(v) == 1 else v for v, n in pairs])
    if isinstance(values[0], TensorRecord):
        return type(values[0]).cat(values, sizes)
    if any(value != values[0] for value in values):
        raise ValueError(f"records differ in {name}: {values}")
    return values[0]


def _shown(value: object) -> str:
    """A field of a record for people: kind and shape of tensors, and few of many values."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        device = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{kind} {tuple(value.shape)}{device}"
    if isinstance(value, tuple) and len(value) > 4:
        return f"{type(value[0]).__name__} x {len(value)}"
    return repr(value)


def concatenate(records: Sequence[R]) -> R:
    """Join records of one type along the batch axis of every tensor.

    Tensors that a record shares among its samples (leading axis 1) are repeated for each of them.

    Raises:
        ValueError: the records differ in a constant.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mg.operators.concatenate([A, A[0]]).maps.shape
        torch.Size([3, 3, 12, 9])
    """
    return type(records[0]).cat(records, [batch_size(record) for record in records])


def batch_size(record: TensorRecord) -> int:
    """The longest leading axis among a record's tensors."""
    sizes = [1]
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if isinstance(value, TensorRecord):
            sizes.append(batch_size(value))
        elif isinstance(value, Tensor):
            sizes.append(len(value))
    return max(sizes)


def tensor_of(array: ArrayLike) -> Tensor:
    """The tensor itself, or one of the values of a numpy array, whose memory it may share.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(array, np.ndarray):
        return torch.from_numpy(np.array(array, order="C", copy=None if array.flags.writeable else True))
    if not isinstance(array, Tensor):
        raise UsageError(f"expected a tensor or a numpy array, not {type(array).__name__}")
    return array


def randn_like(x: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal noise like ``x``.

    Complex noise has variance 1 in each of its components (torch.randn gives 1 in all). For a tensor on a GPU
    and a generator that is not, that draws a key alone, and a generator of the GPU with this key draws the
    noise: the same on cards of one kind, and other noise than a processor's.
    """
    if x.is_cuda and rng.device.type == "cpu":
        key = int(torch.randint(KEYS, (), generator=rng))
        rng = torch.Generator(device=x.device).manual_seed(key)
    noise = torch.randn(x.shape, dtype=x.dtype, device=rng.device, generator=rng)
    return to_device(noise, x.device) * (2**0.5 if x.is_complex() else 1.0)


def evenly_spaced(available: int, count: int) -> list[int]:
    """``count`` indices evenly over ``available`` items, first and last among them; all if there are fewer.

    Examples:
        >>> evenly_spaced(10, 4), evenly_spaced(3, 4)
        ([0, 3, 6, 9], [0, 1, 2])
    """
    ends = torch.linspace(0, available - 1, min(count, available), dtype=torch.float64)
    return [int(index) for index in ends.round()]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, without waiting for what the device still has to do.

    Only memory that a GPU can fetch from on its own is copied like that.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class DeviceCopy:
    """Copies of records on a device; a tensor that several of them hold is sent once.

    What is read to draw A and Ã stays here, so that nobody waits for the device: both are drawn first.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, record: R) -> R:
        """Copy on the device, see ``to_device``."""
        return record.map(self._send)

    def _send(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._pairs:
            self._pairs[id(tensor)] = tensor, to_device(tensor, self._device)
        return self._pairs[id(tensor)][1]


@cache
def triton_kernels_of(device: torch.device) -> ModuleType | None:
    """``mrigen.triton_kernels`` where Triton is installed and runs on a GPU."""
    if not find_spec("triton"):
        return None
    from mrigen import triton_kernels

    return triton_kernels if triton_kernels.works(device) else None


def mirrored(x: Tensor, which: Tensor, axis: int) -> Tensor:
    """(B, C, H, W) flipped along ``axis`` where ``which`` (B,) says so."""
    return torch.where(which.reshape(-1, 1, 1, 1), x.flip(axis), x)


def tensors_of(record: TensorRecord, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a record and of the records in it, by field names joined with dots."""
    tensors: dict[str, Tensor] = {}
    for name, value in _fields(record).items():
        if isinstance(value, Tensor):
            tensors[f"{prefix}{name}"] = value
        elif isinstance(value, TensorRecord):
            tensors.update(tensors_of(value, f"{prefix}{name}."))
    return tensors


def with_tensors(record: R, tensors: Mapping[str, Tensor], prefix: str = "") -> R:
    """Copy of a record in which some tensors, named as ``tensors_of`` does, are replaced."""
    changed: dict[str, Any] = {}
    for name, value in _fields(record).items():
        if isinstance(value, TensorRecord):
            changed[name] = with_tensors(value, tensors, f"{prefix}{name}.")
        elif f"{prefix}{name}" in tensors:
            changed[name] = tensors[f"{prefix}{name}"]
    return dataclasses.replace(record, **changed)  # type: ignore[type-var]


def varying(record: TensorRecord, batch: int) -> list[str]:
    """Names of the tensors that have one entry per sample of a record of ``batch`` > 1 samples."""
    return [name for name, tensor in tensors_of(record).items() if len(tensor) == batch]


def _fields(record: TensorRecord) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}  # type: ignore[arg-type]
