"""The non-uniform Fourier transform and its adjoint, by sigpy, as differentiable functions.

(F x)_j = (HW)^{-1/2} Σ_n x_n exp(−2πi (k_j1 (n_1 − H//2) / H + k_j2 (n_2 − W//2) / W)), with k in cycles per
field of view: at the points of the Cartesian grid it is the project's centred transform. The two
functions are each other's derivative, to any order. sigpy works on the CPU, wherever the tensors are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mrigen.operators.base import COMPLEX_OF

OVERSAMPLING = 2.0
WIDTH = 6


def nufft(x: Tensor, trajectory: Tensor) -> Tensor:
    """F x of images on one or several trajectories.

    Args:
        x: (B, coils, H, W), real or complex.
        trajectory: (B or 1, points, 2) in cycles per field of view, rows first.

    Returns:
        Complex (B, coils, points), accurate to 1e-5 of its norm.
    """
    return _Forward.apply(_complex(x), trajectory)  # type: ignore[no-any-return]


def nufft_adjoint(y: Tensor, trajectory: Tensor, size: tuple[int, int]) -> Tensor:
    """Fᴴ y, the exact adjoint of ``nufft``: complex (B, coils, points) to (B, coils, H, W)."""
    return _Adjoint.apply(_complex(y), trajectory, size)  # type: ignore[no-any-return]


def _complex(x: Tensor) -> Tensor:
    """The same numbers as complex ones of the same precision."""
    return x if x.is_complex() else x.to(COMPLEX_OF[x.dtype])


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, trajectory: Tensor) -> Tensor:
        from sigpy import nufft as transform

        ctx.save_for_backward(trajectory)
        ctx.size = x.shape[-2:]
        return _each(x, trajectory, lambda v, k: transform(v, k, OVERSAMPLING, WIDTH))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (trajectory,) = ctx.saved_tensors
        return nufft_adjoint(gradients[0], trajectory, ctx.size), None


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, trajectory: Tensor, size: tuple[int, int]) -> Tensor:
        from sigpy import nufft_adjoint as transform

        ctx.save_for_backward(trajectory)
        return _each(y, trajectory, lambda v, k: transform(v, k, (*v.shape[:-1], *size), OVERSAMPLING, WIDTH))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (trajectory,) = ctx.saved_tensors
        return nufft(gradients[0], trajectory), None, None


def _each(values: Tensor, trajectory: Tensor, transform: Any) -> Tensor:
    """Transform a whole batch at once where all share a trajectory, else sample by sample."""
    arrays, points = values.detach().cpu().resolve_conj().numpy(), trajectory.cpu().numpy()
    parts = [arrays] if len(points) == 1 else [arrays[i : i + 1] for i in range(len(arrays))]
    done = [torch.from_numpy(transform(a, k)) for a, k in zip(parts, points, strict=True)]
    return torch.cat(done).to(values)
