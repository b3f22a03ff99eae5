"""AᴴA of multi-coil Cartesian MRI in tiles that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mrigen.operators import fourier

CACHE = 2 << 20
MEMORY = 1 << 30
Tile = tuple[slice, slice, slice]


def gram(maps: Tensor, mask: Tensor, x: Tensor) -> Tensor:
    """Σ_c conj(S_c) Fᴴ M F S_c x.

    Fᴴ M F of phase-encode lines acts along each readout row by itself, so that no transform along the
    readout is needed and rows can be taken a few at a time; of a mask in the plane it acts on each coil
    by itself. AᴴA is its own adjoint: the gradient with respect to x is one more product, and nothing
    has to be kept for it.

    Args:
        maps: complex (B or 1, coils, H, W).
        mask: bool (B or 1, 1, 1, W) or (B or 1, 1, H, W), DC in the centre.
        x: complex image (B or 1, 1, H, W).

    Returns:
        complex (B, 1, H, W).
    """
    if maps.requires_grad:
        return _product(maps, mask, x)
    product: Tensor = _Gram.apply(x, maps, mask)
    return product


class _Gram(torch.autograd.Function):
    """The product with a gradient of its own: AᴴA applied to the gradient."""

    @staticmethod
    def forward(x: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
        batch = max(len(x), len(maps), len(mask))
        x, maps, mask = (t.expand(batch, *t.shape[1:]) for t in (x, maps, mask))
        product = torch.zeros_like(x)
        for some, coils, rows in _tiles(maps, by_rows=mask.shape[-2] == 1):
            part = _product(maps[some, coils, rows], mask[some], x[some, :, rows])
            product[some, :, rows] += part
        return product

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        del output
        x, ctx.maps, ctx.mask = inputs
        ctx.batch = len(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        product = gram(ctx.maps, ctx.mask, gradient)
        return product.sum_to_size(ctx.batch, *product.shape[1:]), None, None


def _product(maps: Tensor, mask: Tensor, x: Tensor) -> Tensor:
    axes = (-1,) if mask.shape[-2] == 1 else fourier.PLANE
    return _combine(maps, fourier.project(maps * x, mask, axes))


def _combine(maps: Tensor, images: Tensor) -> Tensor:
    """Σ_c conj(S_c) x_c; on GPUs in one pass where no gradient is wanted of it."""
    fusible = images.is_cuda and images.dtype == torch.complex64 and not torch.is_grad_enabled()
    if fusible and find_spec("triton"):
        from mrigen.operators import fused

        with torch.cuda.device(images.device):
            if fused.works(images.device):
                return fused.combine(maps, images)
    return (images * maps.conj()).sum(1, keepdim=True)


def _tiles(maps: Tensor, *, by_rows: bool) -> Iterator[Tile]:
    """Samples, coils and rows of tiles; what cannot be split is whole in each."""
    batch, coils, height, width = maps.shape
    units = height if by_rows else coils
    budget = CACHE if maps.device.type == "cpu" else MEMORY
    unit = maps.element_size() * width * (coils if by_rows else height)
    at_once = max(1, budget // unit)
    samples, part = max(1, at_once // units), min(units, at_once)
    whole = slice(None)
    for first in range(0, batch, samples):
        some = slice(first, first + samples)
        for start in range(0, units, part):
            piece = slice(start, start + part)
            yield (some, whole, piece) if by_rows else (some, piece, whole)
