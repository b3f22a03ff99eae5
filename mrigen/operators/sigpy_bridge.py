"""Operators from sigpy and for sigpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator, linear
from mrigen.tensors import COMPLEX_OF

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class SigpyOperator(LinearOperator):
    """A sigpy ``Linop`` per sample; images (C, H, W) are reshaped to its input.

    Measurements are (B, *oshape), real or complex as the linop returns them, in the precision of
    what it is given. For real images the adjoint is Re Aᴴ y, which belongs to the inner product
    Re Σ conj(a)·b. sigpy works on the CPU, wherever the tensors are; gradients are exact, to any order.

    Attributes:
        like: a zero image (B or 1, C, H, W) that says shape, kind and device.
        linops: one linop for each image of ``like``, or one for all.

    Raises:
        ValueError: the linops do not fit the image or one another.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.SigpyOperator.example()
        >>> A(A.zero_image()).shape
        torch.Size([2, 3, 9, 8])
    """

    like: Tensor
    linops: tuple[Any, ...]

    def __post_init__(self) -> None:
        shapes = {(tuple(linop.ishape), tuple(linop.oshape)) for linop in self.linops}
        if len(self.linops) not in {1, len(self.like)} or len(shapes) != 1:
            raise ValueError(
                f"needs one linop, or {len(self.like)} of the same shapes; got {len(self.linops)}"
            )
        if math.prod(self.linops[0].ishape) != self.like[0].numel():
            raise ValueError(f"{self.linops[0]} does not act on images of {tuple(self.like.shape[1:])}")

    def forward(self, x: Tensor) -> Tensor:
        """Apply each linop to its image."""
        return _apply(self.linops, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint of each linop."""
        x = _apply(tuple(linop.H for linop in self.linops), y).reshape(len(y), *self.like.shape[1:])
        return x if self.like.is_complex() or not x.is_complex() else x.real

    def zero_image(self) -> Tensor:
        """Zeros of the shape of ``like``."""
        return torch.zeros_like(self.like)

    @classmethod
    def cat(cls, records: Sequence[Self], sizes: Sequence[int]) -> Self:
        """See ``TensorRecord.cat``; the linops are lined up."""
        like = torch.cat([r.like.expand(n, -1, -1, -1) for r, n in zip(records, sizes, strict=True)])
        linops = [linop for r, n in zip(records, sizes, strict=True) for linop in r.lined_up(n)]
        return replace(records[0], like=like, linops=tuple(linops))

    def select(self, index: int) -> Self:
        """See ``TensorRecord.select``."""
        last = len(self.like) - 1
        return replace(
            self, like=self.like[min(index, last)][None], linops=(self.lined_up(last + 1)[min(index, last)],)
        )

    def lined_up(self, count: int) -> tuple[Any, ...]:
        """The linop of each of ``count`` samples."""
        return self.linops * count if len(self.linops) == 1 else self.linops

    @classmethod
    def example(cls) -> SigpyOperator:
        """Two slices of odd size and three coils, each with maps of its own."""
        import sigpy

        rng = np.random.default_rng(0)
        maps = rng.standard_normal((2, 3, 9, 8)) + 1j * rng.standard_normal((2, 3, 9, 8))
        transform = sigpy.linop.FFT((3, 9, 8), axes=(-2, -1))
        linops = tuple(transform * sigpy.linop.Multiply((9, 8), m) for m in maps)
        return cls(torch.zeros(2, 1, 9, 8, dtype=torch.complex64), linops)


def from_sigpy(
    linops: Any, shape: tuple[int, int, int] | None = None, *, complex_valued: bool = True
) -> SigpyOperator:
    """An operator that applies sigpy linops.

    Args:
        linops: one ``sigpy.linop.Linop`` for all images of a batch, or a sequence with one for each.
        shape: (C, H, W) of an image; by default the linop's input shape, with axes of length 1 put
            before it where it has less than three.
        complex_valued: whether images are complex64 rather than float32.

    Raises:
        ValueError: the linops do not fit ``shape`` or one another, or have more than three axes and
            no shape is given.
        UsageError: they are no linops.

    Examples:
        >>> import sigpy, torch
        >>> import mrigen as mg
        >>> A = mg.operators.from_sigpy(sigpy.linop.FFT((8, 8)))
        >>> A(torch.ones(3, 1, 8, 8)).shape
        torch.Size([3, 8, 8])
    """
    each = tuple(linops) if isinstance(linops, Sequence) else (linops,)
    if not each or not all(hasattr(linop, "ishape") and hasattr(linop, "H") for linop in each):
        raise UsageError(f"from_sigpy: give a sigpy.linop.Linop, or one for each image, not {linops!r}")
    axes = tuple(each[0].ishape)
    if shape is None and len(axes) > 3:
        raise ValueError(f"{each[0]} has {len(axes)} axes: say what shape (C, H, W) its images have")
    image = shape if shape is not None else (1,) * (3 - len(axes)) + axes
    dtype = torch.complex64 if complex_valued else torch.float32
    return SigpyOperator(torch.zeros(len(each), *image, dtype=dtype), each)


def to_sigpy(operator: Operator, sample: int = 0) -> Any:
    """A ``sigpy.linop.Linop`` that applies the operator of one sample.

    It takes numpy arrays (C, H, W) and gives what ``forward`` gives without the batch axis, computed
    on the operator's device and in its precision.

    Args:
        operator: any linear one.
        sample: position in the operator's batch.

    Raises:
        UsageError: the operator is not linear.

    Examples:
        >>> import mrigen as mg
        >>> A = mg.operators.to_sigpy(mg.operators.MultiCoilMRI.example()[0])
        >>> A.ishape, A.oshape
        ([1, 12, 9], [3, 12, 9])
    """
    from sigpy.linop import Linop

    one = linear(operator).select(sample)
    image = one.zero_image()
    measurement = one.forward(image)

    class OperatorLinop(Linop):  # type: ignore[misc]
        """``forward`` of the operator, or its adjoint."""

        def __init__(self, *, adjoint: bool) -> None:
            self._like, result = (measurement, image) if adjoint else (image, measurement)
            self._adjoint = adjoint
            super().__init__(result.shape[1:], self._like.shape[1:], repr_str=type(operator).__name__)

        def _apply(self, array: Array) -> Array:
            if np.iscomplexobj(array) and not self._like.is_complex():
                raise TypeError(f"{type(operator).__name__} takes real arrays here, not {array.dtype}")
            tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self._like)[None]
            result = one.adjoint(tensor) if self._adjoint else one.forward(tensor)
            done: Array = result[0].resolve_conj().cpu().numpy()
            return done

        def _adjoint_linop(self) -> OperatorLinop:
            return OperatorLinop(adjoint=not self._adjoint)

    return OperatorLinop(adjoint=False)


def _apply(linops: tuple[Any, ...], x: Tensor) -> Tensor:
    """Linops on a batch, one for each sample or one for all: (B, ...) to (B, *oshape)."""
    result: Tensor = _Apply.apply(x.reshape(len(x), *linops[0].ishape), linops)
    return result


class _Apply(torch.autograd.Function):
    """y_i = A_i x_i. Its derivative is A_iᴴ, the real part of that for real x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linops: tuple[Any, ...]) -> Tensor:
        ctx.linops, ctx.is_complex = linops, x.is_complex()
        arrays = x.detach().cpu().resolve_conj().resolve_neg().contiguous().numpy()
        each = linops * len(arrays) if len(linops) == 1 else linops
        done = [torch.from_numpy(np.array(linop(a))) for linop, a in zip(each, arrays, strict=True)]
        y = torch.stack(done)
        precision = x.real.dtype
        return y.to(device=x.device, dtype=COMPLEX_OF[precision] if y.is_complex() else precision)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = _apply(tuple(linop.H for linop in ctx.linops), gradients[0])
        return (gradient if ctx.is_complex or not gradient.is_complex() else gradient.real), None
