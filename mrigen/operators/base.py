"""What every forward model is: immutable, batched, with an exact adjoint."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
from torch import Tensor

from mrigen.errors import UsageError

COMPLEX_OF = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class TensorRecord:
    """Mixin for frozen dataclasses of tensors: move or cast every tensor at once."""

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Copy on ``device`` and in the precision of ``dtype``; complex tensors stay complex.

        Args:
            device: target device.
            dtype: real dtype, ``torch.float32`` or ``torch.float64``; masks and indices keep theirs.
        """

        def move(value: object) -> object:
            if isinstance(value, TensorRecord):
                return value.to(device=device, dtype=dtype)
            if not isinstance(value, Tensor):
                return value
            if dtype is None or not (value.is_floating_point() or value.is_complex()):
                return value.to(device=device)
            return value.to(device=device, dtype=COMPLEX_OF[dtype] if value.is_complex() else dtype)

        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return dataclasses.replace(self, **{f.name: move(getattr(self, f.name)) for f in fields})  # type: ignore[type-var]


R = TypeVar("R", bound=TensorRecord)


def concatenate(records: Sequence[R]) -> R:
    """Join records of one type along the batch axis of every tensor."""
    first = records[0]
    joined = {}
    for field in dataclasses.fields(first):  # type: ignore[arg-type]
        values = [getattr(record, field.name) for record in records]
        if isinstance(values[0], Tensor):
            joined[field.name] = torch.cat(values)
        elif isinstance(values[0], TensorRecord):
            joined[field.name] = concatenate(values)
    return dataclasses.replace(first, **joined)  # type: ignore[type-var]


class Operator(TensorRecord, ABC):
    """A forward model from images (B, C, H, W) to measurements, one per sample of the batch.

    Subclasses are frozen dataclasses. What defines the model (maps, masks, kernels) are tensors with
    a leading axis of B, or of 1 where all samples share them; ``shape`` and other constants are plain
    values.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A(x): image to measurement."""

    @abstractmethod
    def zero_image(self) -> Tensor:
        """An image of zeros of the operator's batch, shape, kind and device."""

    @abstractmethod
    def as_image(self, y: Tensor) -> Tensor:
        """A measurement as an image of the size that networks and people see."""

    def conditioning(self) -> Tensor | None:
        """Extra network channels that describe A, float32 (B, c, H, W); None when there is nothing to say."""
        return None

    def noise(self, y: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Measurement noise of standard deviation σ (B,) per real component where A measures."""
        return sigma.reshape(-1, *[1] * (y.ndim - 1)) * randn_like(y, generator)


class LinearOperator(Operator):
    """A linear forward model with its exact adjoint.

    Inner products are Re Σ conj(a)·b, so that real and complex images share the contract
    ⟨A x, y⟩ = ⟨x, Aᴴ y⟩.
    """

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y: measurement to image. Applies A's own mask, so it may be given a fuller measurement."""

    def normal(self, x: Tensor) -> Tensor:
        """Aᴴ A x."""
        return self.adjoint(self.forward(x))

    def as_image(self, y: Tensor) -> Tensor:
        """Aᴴ y; operators whose measurement looks like an image return that."""
        return self.adjoint(y)


def linear(operator: Operator) -> LinearOperator:
    """The operator, for code that needs an adjoint.

    Raises:
        UsageError: it is not linear.
    """
    if not isinstance(operator, LinearOperator):
        raise UsageError(f"{type(operator).__name__} is not linear: it has no adjoint; use another objective")
    return operator


def randn_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise like ``x``, drawn on the generator's device.

    Complex noise has variance 1 in each of its components (torch.randn gives 1 in all).
    """
    noise = torch.randn(x.shape, dtype=x.dtype, device=generator.device, generator=generator)
    return noise.to(x.device) * (2**0.5 if x.is_complex() else 1.0)


@dataclass(frozen=True, eq=False)
class Measurements(TensorRecord):
    """A batch of measurements y = A x + σ ε with their operators; the clean x is nowhere in it.

    Attributes:
        y: measurements, shaped as A.forward gives them, zero where A does not measure.
        operator: A, one per sample.
        sigma: standard deviation of the noise per real component, in the units of the image;
            a tensor (B,), zero for noiseless data.
        labels: class labels (B, classes) one-hot, or None.
        further: Ã of each sample where it was fixed with the data; None to draw it at every step.
    """

    y: Tensor
    operator: Operator
    sigma: Tensor
    labels: Tensor | None = None
    further: Operator | None = None

    def __len__(self) -> int:
        return len(self.y)
