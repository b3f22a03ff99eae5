"""Principal components of reference images as features, and the energy of images outside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigen.metrics.frechet import frechet_distance, statistics

LEADING = 48
INSIDE = 200
BLOCKS = 8


@dataclass(frozen=True)
class PrincipalComponents:
    """The first principal components of a set of images, of magnitudes where images are complex.

    Attributes:
        mean: mean image (d,), float64, in the images' units.
        components: orthonormal rows (k, d), float64, by falling variance.
        shape: of an image, (C, H, W).
        weight: what images are multiplied with first, (H, W) or (1,); 1 for whole images.
    """

    mean: Tensor
    components: Tensor
    shape: tuple[int, ...]
    weight: Tensor

    @classmethod
    def of(
        cls, images: Tensor, components: int = INSIDE, weight: Tensor | None = None
    ) -> PrincipalComponents:
        """Components of images (n, C, H, W); at most n − 1 and d of them, if fewer than asked for.

        Args:
            images: real, or complex, whose magnitudes are taken.
            components: their number.
            weight: (H, W), to look at a part of the image only.

        Raises:
            ValueError: fewer than two images, or a pixel that is not finite.
        """
        weight = torch.ones(1, dtype=torch.float64) if weight is None else weight.double().cpu()
        values = _flat(images, weight)
        if len(values) < 2 or not bool(values.isfinite().all()):
            raise ValueError("principal components need at least two images of finite pixels")
        mean = values.mean(0)
        centred = values - mean
        count, size = centred.shape
        wide = count <= size
        power, vectors = torch.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
        power, vectors = power.flip(0), vectors.flip(1)
        rank = int((power > power[0].clamp(min=0) * max(count, size) * torch.finfo(power.dtype).eps).sum())
        kept = min(components, rank, count - 1)
        basis = vectors[:, :kept].T
        if wide:
            basis = basis @ centred / power[:kept, None].sqrt()
        return cls(mean, basis, tuple(images.shape[1:]), weight)

    def __len__(self) -> int:
        return len(self.components)

    def scores(self, images: Tensor, count: int = LEADING) -> Tensor:
        """Coordinates (n, k) of images (n, C, H, W) along the first components, from the mean; float64."""
        return (_flat(images, self.weight) - self.mean) @ self.components[:count].T

    def energy_outside(self, images: Tensor) -> Tensor:
        """‖r − Vᵀ V r‖² / ‖r‖² of r = image − mean, for each of the images (n, C, H, W); 0 where r is 0.

        Noise and everything else that no reference shows lies outside; the components are of the
        references, so that held-out references have more of it than those that the components were
        taken from (see ``held_out_energy``).
        """
        residual = _flat(images, self.weight) - self.mean
        energy = residual.square().sum(1)
        inside = (residual @ self.components.T).square().sum(1)
        return ((energy - inside).clamp(min=0) / energy.clamp(min=torch.finfo(energy.dtype).tiny)).clamp(
            max=1
        )

    def distance(self, images: Tensor, references: Tensor, count: int = LEADING) -> float:
        """Fréchet distance between the first scores of images and references, in squared image units."""
        taken = (statistics(self.scores(some, count)) for some in (images, references))
        return frechet_distance(*taken)


def held_out_energy(images: Tensor, components: int = INSIDE, weight: Tensor | None = None) -> Tensor:
    """Energy of each half of reference images outside the principal components of the other, (n,).

    The halves take turns of an eighth of the set, in order: neighbouring slices of a volume are in the same
    half, and so are not those that are sorted by kind.

    Args:
        images: (n, C, H, W), n at least four.
        components: their number, or half of the images less one, if that is less.
        weight: (H, W), to look at a part of the image only.
    """
    half = halves(len(images))
    outside = torch.empty(len(images), dtype=torch.float64)
    for part in (half, ~half):
        outside[~part] = PrincipalComponents.of(images[part], components, weight).energy_outside(
            images[~part]
        )
    return outside


def halves(count: int) -> Tensor:
    """The first half (count,) of a set as booleans, in turns of an eighth."""
    return torch.arange(count) * BLOCKS // max(count, BLOCKS) % 2 == 0


def _flat(images: Tensor, weight: Tensor) -> Tensor:
    """Magnitudes or pixels (n, d), float64, weighted."""
    grey = images.abs() if images.is_complex() else images
    return (grey.cpu().double() * weight).flatten(1)
