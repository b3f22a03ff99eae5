"""What every forward model is: immutable, batched, with an exact adjoint."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.solve import conjugate_gradient

if TYPE_CHECKING:
    from mrigen.operators.pseudo_inverse import PseudoInverse

ArrayLike = Tensor | NDArray[Any]
"""A tensor, or a numpy array that is taken as one."""

POWER_STEPS, POWER_MARGIN = 50, 1.3
COMPLEX_OF = {torch.float32: torch.complex64, torch.float64: torch.complex128}


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

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Self:
        """The record of some samples; of an index that is one number, a batch of one.

        Raises:
            IndexError: there is no such sample.
        """
        count = batch_size(self)
        if isinstance(index, slice):
            chosen = list(range(count)[index])
        elif isinstance(index, int):
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
        return self.join([self.pick(number) for number in chosen], [1] * len(chosen))

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


def _shown(value: object) -> str:
    """A field of a record for people: kind and shape of tensors, and few of many values."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        device = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{kind} {tuple(value.shape)}{device}"
    if isinstance(value, tuple) and len(value) > 4:
        return f"{type(value[0]).__name__} x {len(value)}"
    return repr(value)


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

    ``A(x)`` checks the shape of x and takes numpy arrays; ``forward``, which subclasses define and
    loops call, does neither.

    >>> import numpy as np, mrigen
    >>> A = mrigen.operators.MultiCoilMRI(np.ones((2, 4, 6), complex), mrigen.masks.exact_random(6, 2, 2))
    >>> A
    MultiCoilMRI(maps=complex128 (1, 2, 4, 6), mask=bool (1, 1, 1, 6))
    >>> A(np.ones((1, 1, 4, 6))).shape
    torch.Size([1, 2, 4, 6])
    """

    def __call__(self, x: ArrayLike) -> Tensor:
        """A(x), of images (B, C, H, W).

        Args:
            x: tensor or numpy array of the operator's image shape, which is cast to its precision; real
                images are taken as complex ones where the operator wants these. An operator of one
                sample takes a batch of any size.

        Raises:
            UsageError: x has another shape, or is complex where images are real.
        """
        zero = self.zero_image()
        return self.forward(_fitted(x, tuple(zero.shape), zero, f"{type(self).__name__}: images"))

    def __matmul__(self, other: object) -> Operator:
        """A @ B, the operator that applies B first: (A @ B)(x) = A(B(x)); linear if both are.

        Raises:
            UsageError: the measurements of B are no images for A.
        """
        from mrigen.operators.composition import compose

        if not isinstance(other, Operator):
            return NotImplemented
        image, (shape, like) = self.zero_image(), other.measured
        if image.shape[1:] != shape[1:] or (like.is_complex() and not image.is_complex()):
            raise UsageError(
                f"{type(self).__name__} @ {type(other).__name__}: the second gives "
                f"{_kind(like)} {shape[1:]}, but the first takes {_kind(image)} {tuple(image.shape[1:])}"
            )
        if len(image) != shape[0] and 1 not in (len(image), shape[0]):
            raise UsageError(
                f"{type(self).__name__} @ {type(other).__name__}: batches of {len(image)} and {shape[0]} "
                "samples do not fit together"
            )
        return compose(other, self)

    @cached_property
    def measured(self) -> tuple[tuple[int, ...], Tensor]:
        """Shape of a measurement of the operator's batch, and a number of its kind on its device."""
        with torch.no_grad():
            y = self.forward(self.zero_image())
        return tuple(y.shape), y.new_zeros(())

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

    >>> import torch, mrigen
    >>> A = mrigen.operators.MultiCoilMRI.example()
    >>> x = torch.randn(2, 1, 12, 9, dtype=torch.complex64)
    >>> torch.allclose(A.H(A(x)), A.normal(x), atol=1e-5)
    True
    >>> A.solve(A(x), iterations=5).shape
    torch.Size([2, 1, 12, 9])
    """

    @property
    def H(self) -> LinearOperator:  # noqa: N802  the adjoint's symbol
        """Aᴴ as an operator: ``A.H(y)`` is ``A.adjoint(y)`` with its shape checked, ``A.H.H`` is A."""
        return Adjoint(self)

    def solve(
        self, y: ArrayLike, *, regularisation: float = 0.0, iterations: int = 30, tolerance: float = 1e-6
    ) -> Tensor:
        """argmin_x ‖A x − y‖² + λ ‖x‖², by conjugate gradients from 0 on (AᴴA + λ) x = Aᴴ y.

        Without λ, and run to the end, the solution of least norm.

        Args:
            y: measurements, tensor or numpy array.
            regularisation: λ ≥ 0.
            iterations: at most so many steps.
            tolerance: a sample is finished when its residual is so small against Aᴴ y.

        Returns:
            Images (B, C, H, W).

        Raises:
            UsageError: y has another shape than A's measurements, λ is negative, or there is no iteration.
        """
        if regularisation < 0 or iterations < 1:
            raise UsageError(
                f"solve: regularisation {regularisation} must not be negative, and iterations {iterations} "
                "at least 1"
            )
        shape, like = self.measured
        rhs = self.adjoint(_fitted(y, shape, like, f"{type(self).__name__}: measurements"))
        return conjugate_gradient(
            lambda x: self.normal(x) + regularisation * x, rhs, iterations, tolerance=tolerance
        )

    def operator_norm(self, iterations: int = POWER_STEPS, rng: torch.Generator | None = None) -> Tensor:
        """‖A‖ = max ‖A x‖ / ‖x‖ of each sample (B,), by power iteration on AᴴA.

        An estimate from below: after k iterations of n pixels its expected relative error is at most
        about ln(n) / 2k (Kuczyński and Woźniakowski 1992, "Estimating the largest eigenvalue by the
        power and Lanczos algorithms with a random start", theorem 3.1).

        Args:
            iterations: applications of AᴴA.
            rng: source of the first image; seed 0 by default.
        """
        zero = self.zero_image()
        with torch.no_grad():
            v = randn_like(zero, rng if rng is not None else torch.Generator().manual_seed(0))
            v = v.expand(batch_size(self), *v.shape[1:])
            squared = zero.real.new_zeros(len(v))
            for _ in range(iterations):
                length = torch.linalg.vector_norm(v.flatten(1), dim=1)
                v = self.normal(v / length.clamp(min=torch.finfo(length.dtype).tiny).view(-1, 1, 1, 1))
                squared = torch.linalg.vector_norm(v.flatten(1), dim=1)
        return squared.sqrt()

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


@dataclass(frozen=True, eq=False)
class Adjoint(LinearOperator):
    """Aᴴ of a linear operator A: its images are A's measurements, and the other way round.

    Attributes:
        of: A.
    """

    of: LinearOperator

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        """A."""
        return self.of

    def forward(self, x: Tensor) -> Tensor:
        """Aᴴ x."""
        return self.of.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A y."""
        return self.of.forward(y)

    def zero_image(self) -> Tensor:
        """Zeros like a measurement of A."""
        shape, like = self.of.measured
        return like.new_zeros(shape)

    @classmethod
    def example(cls) -> Adjoint:
        """From k-space of three coils to images."""
        from mrigen.operators.mri import MultiCoilMRI

        return cls(MultiCoilMRI.example())


def tensor_of(array: ArrayLike) -> Tensor:
    """The tensor itself, or one of the values of a numpy array, whose memory it may share.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(array, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(array))
    if not isinstance(array, Tensor):
        raise UsageError(f"expected a tensor or a numpy array, not {type(array).__name__}")
    return array


def _fitted(array: ArrayLike, shape: tuple[int, ...], like: Tensor, what: str) -> Tensor:
    """A batch of the wanted shape, cast to the precision, kind and device of ``like``.

    Raises:
        UsageError: the shape is another one, also where it would broadcast, or complex values would lose
            their imaginary part.
    """
    x = tensor_of(array)
    batch = (shape[0], len(x)) if x.ndim else (shape[0], 0)
    if x.ndim != len(shape) or tuple(x.shape[1:]) != tuple(shape[1:]) or (batch[0] not in (1, batch[1])):
        wanted = f"({'B' if shape[0] == 1 else shape[0]}, {', '.join(map(str, shape[1:]))})"
        missing = len(shape) - x.ndim
        hint = ""
        if missing > 0 and tuple(x.shape) == tuple(shape[missing:]):
            hint = f"; add the leading axes, x[{', '.join(['None'] * missing)}]"
        raise UsageError(f"{what} must be {wanted}, not {tuple(x.shape)}{hint}")
    if x.is_complex() and not like.is_complex():
        raise UsageError(
            f"{what} are real here, not {str(x.dtype).removeprefix('torch.')}; give x.real or x.abs()"
        )
    return x.to(device=like.device, dtype=like.dtype)


def _kind(x: Tensor) -> str:
    return "complex" if x.is_complex() else "real"


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


@dataclass(frozen=True, eq=False, init=False)
class Measurements(TensorRecord):
    """A batch of measurements y = A x + σ ε with their operators; the clean x is nowhere in it.

    Indexing gives a batch of fewer samples, ``len`` counts them, ``concatenate`` joins batches.

    Attributes:
        y: measurements, shaped as A.forward gives them, zero where A does not measure.
        operator: A, one per sample.
        sigma: standard deviation of the noise per real component, in the units of the image;
            a tensor (B,), zero for noiseless data.
        labels: class labels (B, classes) one-hot, or None.
        further: Ã of each sample where it was fixed with the data; None to draw it at every step.
        augment: augmentation labels (B, 9), or None where nothing was augmented.

    Args:
        y: tensor or numpy array.
        operator: A.
        sigma: one number for all samples, or (B,).
        labels: see above.
        further: see above.
        augment: see above.

    Raises:
        UsageError: σ has another shape, or y has no sample.

    >>> import mrigen
    >>> A = mrigen.operators.MultiCoilMRI.example()
    >>> data = mrigen.Measurements(A(A.zero_image()), A, sigma=0.1)
    >>> len(data), data[1].y.shape, data[[1, 0]].sigma
    (2, torch.Size([1, 3, 12, 9]), tensor([0.1000, 0.1000]))
    """

    y: Tensor
    operator: Operator
    sigma: Tensor
    labels: Tensor | None = None
    further: Operator | None = None
    augment: Tensor | None = None

    def __init__(
        self,
        y: ArrayLike,
        operator: Operator,
        sigma: ArrayLike | float = 0.0,
        labels: ArrayLike | None = None,
        further: Operator | None = None,
        augment: ArrayLike | None = None,
    ) -> None:
        values = tensor_of(y)
        if values.ndim < 2:
            raise UsageError(f"measurements need a leading axis of samples, not shape {tuple(values.shape)}")
        level = (
            torch.full((len(values),), float(sigma)) if isinstance(sigma, int | float) else tensor_of(sigma)
        )
        if tuple(level.shape) != (len(values),):
            raise UsageError(
                f"sigma must be one number or ({len(values)},), one for each measurement, not "
                f"{tuple(level.shape)}"
            )
        if isinstance(sigma, int | float):
            level = level.to(values.device)
        fields = {
            "y": values,
            "operator": operator,
            "sigma": level,
            "labels": None if labels is None else tensor_of(labels),
            "further": further,
            "augment": None if augment is None else tensor_of(augment),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.y)

    def hide(self, further: Callable[[Operator], Operator]) -> Measurements:
        """The same with Ã drawn for each A, unless it was fixed with the data."""
        return self if self.further is not None else dataclasses.replace(self, further=further(self.operator))

    def unpack(self) -> Measurements:
        """These: nothing is packed."""
        return self
