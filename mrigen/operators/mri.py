"""Multi-coil Cartesian MRI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.masks import MaskDistribution
from mrigen.operators.noise import Noise
from mrigen.seeds import seeded_noise
from mrigen.tensors import ArrayLike, batch_size, tensor_of, to_device, triton_kernels_of

CACHE = 1 << 19  # bytes of maps in a tile, per thread: with three temporaries of that size, 2 MiB
MEMORY = 1 << 30
Tile = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False, init=False)
class MultiCoilMRI(LinearOperator):
    """A x = M F S x, measured k-space of every coil (Ambient DPS, Aali et al. 2025, eq. 2).

    S multiplies by the coil sensitivity maps, F is the centred orthonormal Fourier transform, M
    keeps the sampled points. ``adjoint`` is Σ_c conj(S_c) Fᴴ M k_c.

    Attributes:
        maps: coil sensitivities, complex (B or 1, coils, H, W).
        mask: sampled points, bool (B or 1, 1, 1, W) for phase-encode lines or (B or 1, 1, H, W);
            DC in the centre.

    Images are complex (B, 1, H, W), k-space is complex (B, coils, H, W).

    Args:
        maps: tensor or numpy array, (B or 1, coils, H, W), or (coils, H, W) of a single sample.
        mask: tensor or numpy array, bool or of 0 and 1: as above, or (W,), (1, W), (H, W) for all
            samples, or (B, 1 or H, W).

    Raises:
        UsageError: shapes of maps and mask do not fit together, maps are not complex, or the mask
            holds other values than 0 and 1.

    Examples:
        >>> import numpy as np
        >>> maps = np.ones((2, 4, 6), np.complex64) / np.sqrt(2)
        >>> MultiCoilMRI(maps, np.array([1, 0, 1, 1, 0, 1]))(torch.ones(1, 1, 4, 6)).shape
        torch.Size([1, 2, 4, 6])
    """

    maps: Tensor
    mask: Tensor

    def __init__(self, maps: ArrayLike, mask: ArrayLike) -> None:
        object.__setattr__(self, "maps", _maps(tensor_of(maps)))
        object.__setattr__(self, "mask", _mask(tensor_of(mask), *self.maps.shape[-2:]).to(self.maps.device))
        if len(self.maps) != len(self.mask) and 1 not in (len(self.maps), len(self.mask)):
            raise UsageError(
                f"maps of {len(self.maps)} and masks of {len(self.mask)} samples do not fit together: give "
                "as many of each, or one for all"
            )

    def forward(self, x: Tensor) -> Tensor:
        """M F S x: complex image (B, 1, H, W) to k-space (B, coils, H, W)."""
        self._check(x, 1, "images")
        return fourier.fft(self.maps * x) * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        """Σ_c conj(S_c) Fᴴ M y_c: k-space (B, coils, H, W) to complex image (B, 1, H, W)."""
        self._check(y, self.maps.shape[1], "k-space")
        return (self.maps.conj() * fourier.ifft(y * self.mask)).sum(1, keepdim=True)

    def normal(self, x: Tensor) -> Tensor:
        """Σ_c conj(S_c) Fᴴ M F S_c x: complex image (B, 1, H, W) to complex image (B, 1, H, W)."""
        self._check(x, 1, "images")
        return gram(self.maps, *self._response, x)

    @cached_property
    def _response(self) -> tuple[Tensor, fourier.Axes]:
        axes = (-1,) if self.mask.shape[-2] == 1 else fourier.PLANE
        with torch.inference_mode(mode=False):
            return fourier.response(self.mask, axes, self.maps.real.dtype), axes

    def _check(self, x: Tensor, channels: int, what: str) -> None:
        """Refuse shapes that would broadcast silently, or fail far from here.

        Raises:
            UsageError: x is not (B, ``channels``, H, W).
        """
        batch = max(len(self.maps), len(self.mask))
        shape = (channels, *self.maps.shape[-2:])
        if x.shape[1:] != shape or (batch != 1 and len(x) != batch):
            expected = ("B" if batch == 1 else batch, *shape)
            raise UsageError(
                f"MultiCoilMRI: {what} must be ({', '.join(map(str, expected))}), not {tuple(x.shape)}"
            )

    def norm_bound(self) -> Tensor:
        """The largest Σ_c |S_c|² of a pixel; F and M have norm 1.

        Close where the maps are smooth and the centre of k-space is measured.
        """
        largest = self.maps.abs().square().sum(1).flatten(1).amax(1)
        return largest.expand(batch_size(self))

    @cached_property
    def measured(self) -> tuple[tuple[int, ...], Tensor]:
        """Shape of the batch's k-space and a number of its kind, without any transform."""
        return (batch_size(self), *self.maps.shape[1:]), self.maps.new_zeros(())

    def zero_image(self) -> Tensor:
        """Zeros, complex (B, 1, H, W)."""
        batch = max(len(self.maps), len(self.mask))
        return self.maps.new_zeros(batch, 1, *self.maps.shape[-2:])

    def within_support(self, x: Tensor) -> Tensor:
        """What of x a coil sees, and 0 elsewhere."""
        return x * (self.maps != 0).any(1, keepdim=True)

    def conditioning(self) -> Tensor:
        """The mask as a float32 channel (B, 1, H, W)."""
        return self.mask.float().expand(self.zero_image().shape)

    def noise(self, y: Tensor, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """Complex noise of standard deviation σ per component on the sampled points."""
        return super().noise(y, sigma, rng) * self.mask

    def with_mask(self, mask: Tensor) -> Self:
        """The same coils sampled at other points."""
        return replace(self, mask=mask)

    @classmethod
    def example(cls) -> MultiCoilMRI:
        """Two slices, three coils, odd width, a different phase-encode mask per slice."""
        rng = torch.Generator().manual_seed(0)
        maps = torch.randn(2, 3, 12, 9, dtype=torch.complex64, generator=rng)
        mask = torch.rand(2, 1, 1, 9, generator=rng) < 0.5
        return cls(maps, mask)


@dataclass(frozen=True, eq=False)
class SeededMRI(MultiCoilMRI):
    """The operator of a noisy measurement whose noise ε' belongs to a seed.

    Noise σ ε' that is white on the measured points has the covariance σ² N in the image Aᴴ ε', whereas that
    of N (σ ε) is σ² N². With Σ_c |S_c|² = 1 or 0 in every pixel, ε' = M (F S ε + ζ − F S Sᴴ Fᴴ ζ) is white
    for independent white ε (in the image) and ζ (in full k-space), so that Aᴴ ε' = N ε + w with the

        w = Aᴴ (ζ − F S Sᴴ Fᴴ ζ),  of covariance N − N²,

    that ``completion`` returns: σ w turns noise seen through N into measurement noise of the same level.

    Attributes:
        seeds: a number per sample, which ζ depends on alone.
    """

    seeds: tuple[int, ...]

    def completion(self) -> Tensor:
        """w, complex (B, 1, H, W), the same at every call."""
        shape = (self.maps.shape[1], *self.maps.shape[-2:])
        drawn = seeded_noise(list(self.seeds), shape, "completion", complex_valued=True)
        zeta = to_device(drawn, self.maps.device).to(self.maps.dtype)
        image = (self.maps.conj() * fourier.ifft(zeta)).sum(1, keepdim=True)
        return self.adjoint(zeta - fourier.fft(self.maps * image))

    @classmethod
    def cat(cls, records: Sequence[Self], sizes: Sequence[int]) -> Self:
        """See ``TensorRecord.cat``; the seeds are lined up."""
        plain = MultiCoilMRI.cat([MultiCoilMRI(r.maps, r.mask) for r in records], sizes)
        return cls(plain.maps, plain.mask, tuple(seed for r in records for seed in r.seeds))

    def select(self, index: int) -> Self:
        """See ``TensorRecord.select``."""
        return replace(super().select(index), seeds=(self.seeds[index],))

    @classmethod
    def example(cls) -> Self:
        """That of several coils, with two seeds."""
        plain = MultiCoilMRI.example()
        return cls(plain.maps, plain.mask, (3, 4))


def _maps(maps: Tensor) -> Tensor:
    """Coil maps with their leading axis."""
    if maps.ndim not in (3, 4) or not maps.is_complex():
        raise UsageError(
            f"maps must be complex (B, coils, H, W) or (coils, H, W), not {str(maps.dtype)[6:]} "
            f"{tuple(maps.shape)}"
        )
    return maps if maps.ndim == 4 else maps[None]


def _mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask as bool (B or 1, 1, 1 or H, W)."""
    shape = tuple(mask.shape)
    fits = shape[-1:] == (width,) and shape[-2:-1] in ((), (1,), (height,))
    if not fits or mask.ndim > 4 or (mask.ndim == 4 and shape[1] != 1):
        raise UsageError(
            f"mask must be ({width},), (1, {width}), ({height}, {width}), (B, 1 or {height}, {width}), "
            f"(B, 1, 1, {width}) or (B, 1, {height}, {width}), not {shape}"
        )
    if mask.dtype != torch.bool:
        if not ((mask == 0) | (mask == 1)).all():
            raise UsageError("mask must be bool, or hold 0 and 1 only; weights are no mask")
        mask = mask != 0
    if mask.ndim == 4:
        return mask
    return mask[:, None] if mask.ndim == 3 else mask.reshape(1, 1, -1, width)


class MapSource(Protocol):
    """Slices to take coil maps and masks from, a ``MeasurementStore`` for example."""

    def __len__(self) -> int: ...

    def maps_and_masks(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (n, coils, H, W), masks (n, 1, 1 or H, W) and acquired lines (n, W) of some slices."""
        ...


@dataclass(frozen=True, eq=False)
class OperatorBank:
    """The coils and masks of operators as a bank; all of their lines can be measured."""

    operator: MultiCoilMRI

    def __len__(self) -> int:
        return max(len(self.operator.maps), len(self.operator.mask))

    def maps_and_masks(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps, masks and acquired lines, see ``MapBank``."""
        maps, mask = (
            tensor.expand(len(self), -1, -1, -1)[indices]
            for tensor in (self.operator.maps, self.operator.mask)
        )
        return maps, mask, torch.ones(len(indices), maps.shape[-1], dtype=torch.bool)


class MRICorruption(Corruption):
    """Coil maps drawn from a data set, masks from a distribution, or both together from the data set.

    Args:
        source: where maps come from.
        mask_distribution: p(M), also of the further corruption.
        fresh: draw new masks from the distribution; otherwise take the slice's own (the only way for data
            that were undersampled at the scanner).
        noise: measurement noise.
        scanner: the noise that the data have, where it is known; only ``noisy`` makes something of it, for
            measurements of generated images have none unless an objective accounts for it.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=1)
        >>> law = {"name": "exact-random", "acceleration": 2, "acs_lines": 1}
        >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask, mask_distribution=law)
        >>> store.corruption().draw(5, torch.Generator().manual_seed(0)).mask.shape  # maps of random slices
        torch.Size([5, 1, 1, 9])
    """

    def __init__(
        self,
        source: MapSource,
        mask_distribution: MaskDistribution,
        *,
        fresh: bool = True,
        noise: Noise | None = None,
        scanner: Noise | None = None,
    ) -> None:
        self.maps = source
        self.mask_distribution = mask_distribution
        self.fresh = fresh
        self.noise = noise if noise is not None else Noise()
        self.scanner = scanner
        self.ambient_obstacle, self.baseline = mask_distribution.ambient_obstacle, mask_distribution.baseline

    def noisy(self) -> MRICorruption:
        """The same with the scanner's noise.

        Raises:
            UsageError: the store does not know it.
        """
        if self.noise:
            return self
        if self.scanner is None:
            raise UsageError(
                "the noise level of these scans is unknown; prepare them again with mrigen prep-fastmri "
                "--noise-whitening, which measures it, or use objective ambient as if they were clean"
            )
        return type(self)(self.maps, self.mask_distribution, fresh=self.fresh, noise=self.scanner)

    def draw(self, batch: int, rng: torch.Generator) -> MultiCoilMRI:
        """Maps of a random slice; its own mask or a fresh one."""
        index = torch.randint(len(self.maps), (batch,), generator=rng).tolist()
        maps, masks, acquired = self.maps.maps_and_masks(index)
        if self.fresh:
            masks = self.mask_distribution.sample(acquired, maps.shape[-2], rng)
        return MultiCoilMRI(maps, masks)

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> MultiCoilMRI:
        """Drop a few lines or points outside the calibration region of each mask."""
        if not isinstance(operator, MultiCoilMRI):
            raise TypeError(f"MRICorruption cannot corrupt a {type(operator).__name__} further")
        mask = self.mask_distribution.corrupt_further(operator.mask.cpu(), rng)
        return operator.with_mask(mask.to(operator.mask.device))


def gram(maps: Tensor, seen: Tensor, axes: fourier.Axes, x: Tensor) -> Tensor:
    """Σ_c conj(S_c) Fᴴ M F S_c x.

    Fᴴ M F of phase-encode lines acts along each readout row by itself, so that no transform along the
    readout is needed and rows can be taken a few at a time; of a mask in the plane it acts on each coil
    by itself. AᴴA is its own adjoint: the gradient with respect to x is one more product, and nothing
    has to be kept for it.

    Args:
        maps: complex (B or 1, coils, H, W).
        seen: ``fourier.response`` of the mask (B or 1, 1, 1, W) or (B or 1, 1, H, W).
        axes: of the transform.
        x: complex image (B or 1, 1, H, W).

    Returns:
        complex (B, 1, H, W).
    """
    if not torch.is_grad_enabled():
        return _tiled(maps, seen, axes, x)
    if maps.requires_grad:
        return _product(maps, seen, axes, x)
    product: Tensor = _Gram.apply(x, maps, seen, axes)
    return product


class _Gram(torch.autograd.Function):
    """The product with a gradient of its own: AᴴA applied to the gradient."""

    # A setup_context of its own would have torch inspect the signature of forward at every call, which takes
    # longer than the rest.
    @staticmethod
    def forward(ctx: Any, x: Tensor, maps: Tensor, seen: Tensor, axes: fourier.Axes) -> Tensor:
        ctx.maps, ctx.seen, ctx.axes, ctx.batch = maps, seen, axes, len(x)
        return _tiled(maps, seen, axes, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        product = gram(ctx.maps, ctx.seen, ctx.axes, gradient)
        return product.sum_to_size(ctx.batch, *product.shape[1:]), None, None, None


def _tiled(maps: Tensor, seen: Tensor, axes: fourier.Axes, x: Tensor) -> Tensor:
    batch = max(len(x), len(maps), len(seen))
    x, maps, seen = (t if len(t) == batch else t.expand(batch, *t.shape[1:]) for t in (x, maps, seen))
    tiles = list(_tiles(maps, by_rows=len(axes) == 1))
    if len(tiles) == 1:
        return _product(maps, seen, axes, x)
    product = torch.zeros_like(x)
    for samples, coils, rows in tiles:
        part = _product(maps[samples, coils, rows], seen[samples], axes, x[samples, :, rows])
        product[samples, :, rows] += part
    return product


def _product(maps: Tensor, seen: Tensor, axes: fourier.Axes, x: Tensor) -> Tensor:
    return _combine(maps, fourier.project(maps * x, seen, axes))


def _combine(maps: Tensor, images: Tensor) -> Tensor:
    """Σ_c conj(S_c) x_c, the conjugate of Σ_c S_c conj(x_c); where no gradient is wanted, in place."""
    if images.is_cuda and images.dtype == torch.complex64 and not torch.is_grad_enabled():
        with torch.cuda.device(images.device):
            kernels = triton_kernels_of(images.device)
            if kernels is not None:
                combined: Tensor = kernels.combine(maps, images)
                return combined
    images = images.conj()
    weighted = maps * images if torch.is_grad_enabled() else images.mul_(maps)
    return weighted.sum(1, keepdim=True).conj().resolve_conj()


def _tiles(maps: Tensor, *, by_rows: bool) -> Iterator[Tile]:
    """Samples, coils and rows of tiles; what cannot be split is whole in each."""
    batch, coils, height, width = maps.shape
    units = height if by_rows else coils
    budget = CACHE * torch.get_num_threads() if maps.device.type == "cpu" else MEMORY
    unit = maps.element_size() * width * (coils if by_rows else height)
    at_once = max(1, budget // unit)
    samples, part = max(1, at_once // units), min(units, at_once)
    whole = slice(None)
    for first in range(0, batch, samples):
        samples_slice = slice(first, first + samples)
        for start in range(0, units, part):
            piece = slice(start, start + part)
            yield (samples_slice, whole, piece) if by_rows else (samples_slice, piece, whole)
