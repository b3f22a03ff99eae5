"""Distances of sets of images from a reference set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from mrigen.metrics.features import features
from mrigen.metrics.frechet import Statistics, frechet_distance, statistics
from mrigen.metrics.pictures import magnitude_window, pictures


@dataclass(frozen=True)
class Reference:
    """Statistics of a reference set, and how images are turned into pictures for it.

    Attributes:
        extractor: feature extractor.
        window: grey window of magnitude images, None for natural images.
        statistics: of the reference's features.
    """

    extractor: FeatureExtractorBase
    window: float | None
    statistics: Statistics

    @classmethod
    def of(cls, images: Tensor, extractor: FeatureExtractorBase, batch: int = 256) -> Reference:
        """Statistics of reference images (n, C, H, W)."""
        window = magnitude_window(images) if images.is_complex() else None
        found = features((pictures(part, window) for part in images.split(batch)), extractor)
        return cls(extractor, window, statistics(found))

    def distance(self, images: Iterable[Tensor]) -> float:
        """Fréchet distance of batches of images (B, C, H, W) from the reference."""
        found = features((pictures(part, self.window) for part in images), self.extractor)
        return frechet_distance(statistics(found), self.statistics)
