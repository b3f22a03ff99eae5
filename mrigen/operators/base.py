"""What every forward model is: immutable, batched, with an exact adjoint."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor

from mrigen.errors import UsageError

if TYPE_CHECKING:
    from mrigen.operators.pseudo_inverse import PseudoInverse

POWER_STEPS, POWER_MARGIN = 50, 1.3
COMPLEX_OF = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class TensorRecord:
    """Mixin for frozen dataclasses of tensors: move or cast every tensor at once."""

    def to(
        self,
        *,
        device: torch.device | str | None = None,
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

        return self.each(move)

    def sent(self, device: torch.device) -> Self:
        """Copy on a device, see ``sent``."""
        return self.each(lambda value: sent(value, device))

    def pin_memory(self) -> Self:
        """Copy in memory that a GPU can fetch from on its own."""
        return self.each(lambda value: value.contiguous().pin_memory())

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Copy with every tensor changed, those of records in it too."""

        def changed(value: object) -> object:
            if isinstance(value, TensorRecord):
                return value.each(change)
            return change(value) if isinstance(value, Tensor) else value

        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return dataclasses.replace(self, **{f.name: changed(getattr(self, f.name)) for f in fields})  # type: ignore[type-var]

    @classmethod
    def join(cls, records: Sequence[Self], sizes: Sequence[int]) -> Self:
        """One record of the samples of several; ``sizes`` counts the samples of each."""
        joined: dict[str, object] = {}
        for field in dataclasses.fields(records[0]):  # type: ignore[arg-type]
            values = [getattr(record, field.name) for record in records]
            joined[field.name] = _joined(field.name, values, sizes)
        return dataclasses.replace(records[0], **joined)  # type: ignore[type-var]

    def pick(self, index: int) -> Self:
        """The record of one sample: tensors with a leading axis of 1, what all samples share included."""

        def one(value: object) -> object:
            if isinstance(value, TensorRecord):
                return value.pick(index)
            return value[min(index, len(value) - 1)][None] if isinstance(value, Tensor) else value

        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return dataclasses.replace(self, **{f.name: one(getattr(self, f.name)) for f in fields})  # type: ignore[type-var]


def _joined(name: str, values: list[Any], sizes: Sequence[int]) -> object:
    """One field of several records."""
    if isinstance(values[0], Tensor):
        pairs = zip(values, sizes, strict=True)
        return torch.cat([v.expand(n, *v.shape[1:]) if len(v) == 1 else v for v, n in pairs])
    if isinstance(values[0], TensorRecord):
        return type(values[0]).join(values, sizes)
    if any(value != values[0] for value in values):
        raise ValueError(f"records differ in {name}: {values}")
    return values[0]


R = TypeVar("R", bound=TensorRecord)


def concatenate(records: Sequence[R]) -> R:
    """Join records of one type along the batch axis of every tensor.

    Tensors that a record shares among its samples (leading axis 1) are repeated for each of them.

    Raises:
        ValueError: the records differ in a constant.
    """
    return type(records[0]).join(records, [batch_size(record) for record in records])


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

    def visible(self, x: Tensor) -> Tensor:
        """What of x a complete measurement of this kind could show; here it is everything."""
        return x

    def conditioning(self) -> Tensor | None:
        """Extra network channels that describe A, float32 (B, c, H, W); None when there is nothing to say."""
        return None

    def noise(self, y: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Measurement noise of standard deviation σ (B,) per real component where A measures."""
        return sigma.reshape(-1, *[1] * (y.ndim - 1)) * randn_like(y, generator)

    def white_image(self, y: Tensor, sigma: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A noisy measurement as an image whose noise is white, and the standard deviation (B,) of that.

        Operators that leave pixels out add the noise that those lack.

        Args:
            y: measurement with noise of standard deviation ``sigma``.
            sigma: (B,).
            generator: source of the noise that is added.

        Raises:
            UsageError: the noise is correlated in the image.
        """
        del generator
        if self.as_image(y) is not y:
            raise UsageError(
                f"{type(self).__name__}: the measurement's noise is correlated in the image, which plain "
                "Tweedie cannot model; use ambient-tweedie where there are masks"
            )
        return y, sigma

    def mirror(self, y: Tensor, which: Tensor, axis: int) -> tuple[Tensor, Self]:
        """Measurements and operators of the images mirrored along an axis, where ``which`` (B,) says so.

        Raises:
            UsageError: a mirrored image has no measurement of this kind.
        """
        del y, which, axis
        raise UsageError(f"{type(self).__name__} cannot be mirrored: train without augmentation (augment: 0)")


class LinearOperator(Operator):
    """A linear forward model with its exact adjoint.

    Inner products are Re Σ conj(a)·b, so that real and complex images share the contract
    ⟨A x, y⟩ = ⟨x, Aᴴ y⟩.
    """

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y: measurement to image. Applies A's own mask, so it may be given a fuller measurement."""

    @property
    def is_projection(self) -> bool:
        """Whether N N = N for N = Aᴴ A, whatever the mask; False where that depends on the values."""
        return False

    def normal(self, x: Tensor) -> Tensor:
        """Aᴴ A x."""
        return self.adjoint(self.forward(x))

    def norm_bound(self) -> Tensor:
        """Upper bound of the largest eigenvalue of N = Aᴴ A of each sample, real (B,).

        1 for projections. Otherwise 1.3 ‖N v‖ / ‖v‖ after 50 steps of power iteration from a random v
        of a fixed seed: the expected relative error of so many steps is at most 0.871 ln n / 49
        (Kuczyński and Woźniakowski 1992, theorem 3.1), which 1.3 makes up for up to n = 400,000 pixels.
        It takes 50 products by N; operators that know better say so.
        """
        zero = self.zero_image()
        norm = zero.real.new_ones(batch_size(self))
        if self.is_projection:
            return norm
        with torch.no_grad():
            v = randn_like(zero, torch.Generator().manual_seed(0)).expand(len(norm), *zero.shape[1:])
            for _ in range(POWER_STEPS):
                v = self.normal(v / norm.clamp(min=torch.finfo(norm.dtype).tiny).view(-1, 1, 1, 1))
                norm = v.flatten(1).norm(dim=1)
        return POWER_MARGIN * norm

    def pseudo_inverse(self, tau: float = 0.05, steps: int = 8) -> PseudoInverse:
        """(N + τ L)⁻¹ and P = (N + τ L)⁻¹ N of N = Aᴴ A with ‖N‖ ≤ L; see ``PseudoInverse``."""
        from mrigen.operators.pseudo_inverse import PseudoInverse

        return PseudoInverse(self, tau, steps)

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
    return sent(noise, x.device) * (2**0.5 if x.is_complex() else 1.0)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, without waiting for what the device still has to do.

    Only memory that a GPU can fetch from on its own is copied like that.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Sender:
    """Sends records to a device; a tensor that several of them hold is sent once.

    What is read to draw A and Ã stays here, so that nobody waits for the device: both are drawn first.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, record: R) -> R:
        """Copy on the device, see ``sent``."""
        return record.each(self._send)

    def _send(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._pairs:
            self._pairs[id(tensor)] = tensor, sent(tensor, self._device)
        return self._pairs[id(tensor)][1]


def mirrored(x: Tensor, which: Tensor, axis: int) -> Tensor:
    """(B, C, H, W) flipped along ``axis`` where ``which`` (B,) says so."""
    return torch.where(which.reshape(-1, 1, 1, 1), x.flip(axis), x)


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
        augment: augmentation labels (B, 9), or None where nothing was augmented.
    """

    y: Tensor
    operator: Operator
    sigma: Tensor
    labels: Tensor | None = None
    further: Operator | None = None
    augment: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def hide(self, further: Callable[[Operator], Operator]) -> Measurements:
        """The same with Ã drawn for each A, unless it was fixed with the data."""
        return self if self.further is not None else dataclasses.replace(self, further=further(self.operator))

    def unpack(self) -> Measurements:
        """These: nothing is packed."""
        return self
