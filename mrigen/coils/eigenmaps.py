"""Eigenvectors of ESPIRiT's matrices G(r) at every pixel, for little more than one product per pixel.

G is smooth, so its leading eigenvectors are found exactly on a coarse grid and interpolated; one
product with G at every pixel then polishes them, gives their eigenvalues and measures how well they
fit. Pixels that do not fit (where eigenvalues cross, eigenvectors turn quickly) are solved exactly.

Shapes: B slices, C coils, F = 2K - 1 samples of G per axis, m maps. Vectors of an image are laid out
as (B, rows, m, C, columns), vectors of n single matrices as (n, m, C, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

OVERSAMPLING = 4  # coarse points per Nyquist distance N / (2K - 1)
SQUARINGS = 8  # single matrices are raised to the power 2⁸
TOLERANCE = 5e-3  # largest |G v - λ v| / |G v| of an interpolated eigenvector
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, eq=False)
class PixelMatrices:
    """G of some slices on an H × W grid.

    Attributes:
        samples: G at (2K - 1)² angles, complex64 (B, F, F, C, C), as ``calibration.pixel_samples``.
        height: H.
        width: W.
    """

    samples: Tensor
    height: int
    width: int

    def weights(self, size: int, positions: Tensor) -> Tensor:
        """Trigonometric interpolation from the F samples of an axis to pixels: (positions, F)."""
        count = self.samples.shape[1]
        angle = 2 * math.pi * (positions.double() - size // 2) / size
        angle = angle[:, None] - 2 * math.pi / count * torch.arange(count, device=positions.device)
        order = torch.arange(1, count // 2 + 1, device=positions.device)
        return ((1 + 2 * (order * angle[..., None]).cos().sum(-1)) / count).float()

    @cached_property
    def _every_column(self) -> Tensor:
        """Weights of all columns for real and imaginary parts, (F, 1, 2 W)."""
        columns = torch.arange(self.width, device=self.samples.device)
        return self.weights(self.width, columns).T.repeat_interleave(2, 1)[:, None]

    def rows(self, y: Tensor) -> Tensor:
        """G interpolated along y only: (B, len(y), F, C, C)."""
        return _contract(self.weights(self.height, y), self.samples, 1)

    def grid(self, y: Tensor, x: Tensor) -> Tensor:
        """G at rows y and columns x: (B, len(y), len(x), C, C)."""
        return _contract(self.weights(self.width, x), self.rows(y), 2)

    def points(self, index: Tensor) -> Tensor:
        """G at pixels (slice, y, x), sorted by slice: (n, 3) to (n, C, C)."""
        weights_y, weights_x = self.weights(self.height, index[:, 1]), self.weights(self.width, index[:, 2])
        weights = (weights_y[:, :, None] * weights_x[:, None]).flatten(1)
        counts = index[:, 0].bincount(minlength=len(self.samples)).tolist()
        slices = zip(weights.split(counts), self.samples.flatten(1, 2), strict=True)
        return torch.cat([_contract(w, samples, 0) for w, samples in slices])

    def multiply(self, y: Tensor, vectors: Tensor) -> Tensor:
        """G v at all pixels of rows y: vectors (B, len(y), m, C, W) to the same shape.

        Summing over the F samples and the coils at once makes it one matrix product per row.
        """
        parts = torch.view_as_real(vectors).flatten(-2)
        spread = parts[..., None, :, :] * self._every_column
        spread = torch.view_as_complex(spread.unflatten(-1, (-1, 2))).flatten(-3, -2)
        return self.rows(y).transpose(2, 3).flatten(3)[:, :, None] @ spread


def eigenmaps(matrices: PixelMatrices, maps: Tensor, values: Tensor, tile: int) -> None:
    """Fill in the leading eigenvectors and eigenvalues of G at every pixel.

    Args:
        matrices: G.
        maps: takes unit vectors, complex64 (B, m, C, H, W), with coil 0 real and not negative.
        values: takes eigenvalues, float32 (B, m, H, W), descending in m.
        tile: complex numbers that a temporary may hold.
    """
    batch, count, coils, height, width = maps.shape
    samples = matrices.samples.shape[1]
    steps = [max(1, round(size / (samples * OVERSAMPLING))) for size in (height, width)]
    poor = torch.ones(batch, height, width, dtype=torch.bool, device=maps.device)
    if max(steps) > 1:
        coarse = _coarse(matrices, count, steps, tile)
        lines = max(1, tile // (batch * width * count * coils * samples))
        for y in torch.arange(height).split(lines):
            rows = slice(int(y[0]), int(y[-1]) + 1)
            vectors = _orthonormal(_interpolate(coarse[:, rows], width, steps[1]))
            polished, eigenvalues, misfit = _ritz(vectors, matrices.multiply(y.to(maps.device), vectors))
            maps[..., rows, :] = polished.permute(0, 2, 3, 1, 4)
            values[..., rows, :] = eigenvalues.transpose(1, 2)
            poor[:, rows] = (misfit > TOLERANCE).any(2)
    for index in poor.nonzero().split(_at_once(tile, coils)):
        b, y, x = index.unbind(1)
        vectors, eigenvalues = leading_eigenvectors(matrices.points(index), count)
        maps[b, :, :, y, x], values[b, :, y, x] = vectors[..., 0], eigenvalues[..., 0]


def _at_once(tile: int, coils: int) -> int:
    """Number of C × C matrices to solve at once: three temporaries of this size are in use."""
    return max(1, tile // (4 * coils**2))


def _coarse(matrices: PixelMatrices, count: int, steps: list[int], tile: int) -> Tensor:
    """Eigenvectors at all rows but only at columns -step, 0, step, ..., (B, H, m, C, columns).

    They are solved for on a grid with a step in both directions, two points past the far edges.
    """
    y, x = (
        step * torch.arange(-1, -(-size // step) + 2, device=matrices.samples.device)
        for size, step in zip((matrices.height, matrices.width), steps, strict=True)
    )
    grid = matrices.grid(y, x).transpose(1, 2)
    parts = grid.flatten(0, 2).split(_at_once(tile, grid.shape[-1]))
    vectors = torch.cat([leading_eigenvectors(part, count)[0] for part in parts])
    by_column = vectors[..., 0].unflatten(0, grid.shape[:3]).permute(0, 1, 3, 4, 2)
    return _interpolate(by_column, matrices.height, steps[0]).permute(0, 4, 2, 3, 1).contiguous()


def leading_eigenvectors(matrices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors (n, m, C, 1) and eigenvalues (n, m, 1) of (n, C, C) by repeated squaring.

    G^(2^s) tends to λ^(2^s) v vᴴ; any column of it is v. The next vector is that of G without v.
    """
    basis: list[Tensor] = []
    rest = matrices
    for _ in range(count):
        if basis:
            rest = rest - basis[-1] @ (basis[-1].mH @ rest)
        power = rest
        for squaring in range(SQUARINGS):
            if squaring % 3 == 0:  # λ_max ≥ trace / C: three squarings cannot underflow
                trace = power.diagonal(dim1=1, dim2=2).real.sum(-1)
                power = power * trace.clamp(min=TINY).reciprocal()[:, None, None]
            power = power @ power
        strongest = power.diagonal(dim1=1, dim2=2).real.contiguous().argmax(1)
        vector = power.gather(2, strongest[:, None, None].expand(-1, power.shape[1], 1))
        basis.append(_orthonormal(vector[:, None])[:, 0])
    vectors = _orthonormal(torch.stack(basis, 1))
    polished, values, _ = _ritz(vectors, matrices[:, None] @ vectors)
    return polished, values


def _ritz(vectors: Tensor, products: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Best eigenvectors in the span of orthonormal v, given products G v; layout (..., m, C, columns).

    Returns:
        G v, orthonormal, with coil 0 real and not negative; eigenvalues |G v|, (..., m, columns);
        and the misfit |G v - λ v| / |G v| with λ = vᴴ G v, (..., m, columns).
    """
    if vectors.shape[-3] > 1:
        small = torch.einsum("...icx,...jcx->...xij", vectors.conj(), products)
        turn = torch.linalg.eigh(small).eigenvectors.flip(-1)
        vectors = torch.einsum("...icx,...xij->...jcx", vectors, turn)
        products = torch.einsum("...icx,...xij->...jcx", products, turn)
    norm = _dot(products, products).sqrt()
    cosine = _dot(vectors, products) / norm.clamp(min=TINY)
    polished = _orthonormal(products)
    first = polished[..., :1, :]
    phase = torch.where(first == 0, 1, first.conj().sgn())
    return polished * phase, norm, (1 - cosine**2).clamp(min=0).sqrt()


def _orthonormal(vectors: Tensor) -> Tensor:
    """Gram-Schmidt over m: (..., m, C, columns)."""
    done: list[Tensor] = []
    for vector in vectors.unbind(-3):
        rest = vector
        for other in done:
            rest = rest - other * (other.conj() * rest).sum(-2, keepdim=True)
        done.append(rest * _dot(rest, rest).clamp(min=TINY).rsqrt()[..., None, :])
    return torch.stack(done, -3)


def _interpolate(vectors: Tensor, size: int, step: int) -> Tensor:
    """Cubic interpolation of unit vectors (..., C, points), from points -step, 0, step, ... to 0 .. size - 1.

    An eigenvector has no phase of its own: of four neighbours, three are turned towards the second.
    """
    t = torch.arange(step, device=vectors.device) / step
    lagrange = [
        t * (t - 1) * (2 - t) / 6,
        (t * t - 1) * (t - 2) / 2,
        t * (t + 1) * (2 - t) / 2,
        t * (t * t - 1) / 6,
    ]
    cells = vectors.shape[-1] - len(lagrange) + 1
    neighbours = vectors.unfold(-1, cells, 1).transpose(-1, -2)
    base = vectors[..., 1 : 1 + cells, None]
    turned = neighbours * (neighbours.conj() * base).sum(-3, keepdim=True).sgn()
    return (turned @ torch.stack(lagrange).to(turned.dtype)).flatten(-2)[..., :size]


def _contract(weights: Tensor, field: Tensor, dim: int) -> Tensor:
    """Real matrix times complex field along ``dim``, the axes after it being independent."""
    flat = torch.view_as_real(field).flatten(dim + 1)
    return torch.view_as_complex((weights @ flat).unflatten(-1, (*field.shape[dim + 1 :], 2)))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Re aᴴ b along C: layout (..., C, columns) to (..., columns)."""
    product = torch.view_as_real(a).flatten(-2) * torch.view_as_real(b).flatten(-2)
    total: Tensor = product.sum(-2).unflatten(-1, (-1, 2)).sum(-1)
    return total
