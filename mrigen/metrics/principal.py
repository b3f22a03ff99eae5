"""Principal components of reference images as features, and the energy of images outside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigen.metrics.frechet import frechet_distance, statistics

LEADING = 48
INSIDE = 200
MOST = 1000
BLOCKS = 8
FEWEST = 4


@dataclass(frozen=True)
class PrincipalComponents:
    """The first principal components of a set of images, of magnitudes where images are complex.

    Attributes:
        mean: mean image (d,), float64, in the images' units.
        components: orthonormal rows (k, d), float64, by falling variance.
        weight: what images are multiplied with first, (H, W) or (1,); 1 for whole images.
    """

    mean: Tensor
    components: Tensor
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
        power, vectors = power.flip(0).clamp(min=0), vectors.flip(1)
        rank = int((power > power[0] * max(count, size) * torch.finfo(power.dtype).eps).sum())
        kept = min(components, rank, count - 1)
        basis = vectors[:, :kept].T
        if wide:
            basis = basis @ centred / power[:kept, None].sqrt()
        return cls(mean, basis, weight)

    def __len__(self) -> int:
        return len(self.components)

    def features(self, images: Tensor) -> Tensor:
        """Coordinates (n, k + 1) of images (n, C, H, W) relative to the mean, in the images' units; float64.

        The coordinates along the first k = 48 components, and the norm of the rest, so that the sum of
        their squares is ‖image − mean‖² and nothing that an image holds goes unseen.
        """
        residual = _flat(images, self.weight) - self.mean
        scores = residual @ self.components[:LEADING].T
        return torch.cat([scores, _rest(residual, scores).sqrt()[:, None]], 1)

    def energy_outside(self, images: Tensor) -> Tensor:
        """‖r − Vᵀ V r‖² / ‖r‖² of r = image − mean, for each of the images (n, C, H, W); 0 where r is 0.

        V are all components. Noise and everything else that the images behind them do not show lies outside.
        Of these images themselves less of it lies outside than of others: see ``held_out``.
        """
        residual = _flat(images, self.weight) - self.mean
        energy = residual.square().sum(1)
        outside = _rest(residual, residual @ self.components.T)
        return torch.where(energy > 0, outside / energy.clamp(min=torch.finfo(energy.dtype).tiny), 0)

    def distance(self, images: Tensor, references: Tensor) -> float:
        """Fréchet distance of the features of images from those of the references behind the components.

        In squared units of the images. References count as ``held_out`` has them.
        """
        features, _ = held_out(references, self)
        return frechet_distance(statistics(self.features(images)), statistics(features))


def held_out(images: Tensor, whole: PrincipalComponents) -> tuple[Tensor, Tensor]:
    """Features (n, k + 1) of the images behind some components, and their energy outside (n,), without bias.

    Coordinates along the leading components are their own. The norm of the rest and the energy outside are
    of components of the other images: the images are cut into eighths, in order, so that slices of a volume
    stay together, and each eighth is left out once. Fewer than four images are too few for that.

    Args:
        images: (n, C, H, W), those that ``whole`` was made of.
        whole: their components.
    """
    features, energy = whole.features(images), whole.energy_outside(images)
    if len(images) >= FEWEST:
        blocks = min(BLOCKS, len(images))
        block = torch.arange(len(images)) * blocks // len(images)
        for number in range(blocks):
            of_others = PrincipalComponents.of(images[block != number], INSIDE, whole.weight)
            features[block == number, -1] = of_others.features(images[block == number])[:, -1]
            energy[block == number] = of_others.energy_outside(images[block == number])
    return features, energy


def _rest(residual: Tensor, scores: Tensor) -> Tensor:
    """Squared norm (n,) of what is left of vectors beside their coordinates in an orthonormal basis."""
    return (residual.square().sum(1) - scores.square().sum(1)).clamp(min=0)


def _flat(images: Tensor, weight: Tensor) -> Tensor:
    """Magnitudes or pixels (n, d), float64, weighted."""
    grey = images.abs() if images.is_complex() else images
    return (grey.cpu().double() * weight).flatten(1)
