"""Memorisation: how much generated images are like single training measurements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrigen.data.pool import Pool
from mrigen.metrics.correlation import Match, Nearest
from mrigen.metrics.features import Extractor
from mrigen.metrics.pictures import Rendering
from mrigen.operators.base import Measurements
from mrigen.operators.identity import Identity


class Similarity(Protocol):
    """How alike the two images of each match are, at most 1."""

    def __call__(self, matches: list[Match]) -> list[float]:
        """One number per match."""
        ...


@dataclass(frozen=True)
class Pair:
    """A generated image and the training measurement that is most like it.

    Attributes:
        image: position of the generated image.
        similarity: of the two.
        match: the training measurement.
    """

    image: int
    similarity: float
    match: Match


def correlation(matches: list[Match]) -> list[float]:
    """Normalised correlation of what the operator shows of both."""
    return [match.correlation for match in matches]


@dataclass(frozen=True)
class FeatureSimilarity:
    """Cosine between features of what the operator shows of both.

    Attributes:
        extractor: DINOv2, for example.
        rendering: how images become pictures.
    """

    extractor: Extractor
    rendering: Rendering

    def __call__(self, matches: list[Match]) -> list[float]:
        """One cosine per match."""
        layer = self.extractor.layer("fid")
        masked, measured = (
            self.extractor([self.rendering(torch.stack(images))])[layer]
            for images in ([m.masked for m in matches], [m.measured for m in matches])
        )
        return [float(c) for c in torch.nn.functional.cosine_similarity(masked, measured)]


def top_pairs(
    batches: Iterable[Tensor], nearest: Nearest, similarity: Similarity = correlation
) -> Iterator[Pair]:
    """The most similar training measurement of each image, in the order of the images.

    Candidates are found by correlation; ``similarity`` decides among them.

    Args:
        batches: images (B, C, H, W).
        nearest: search of the training data.
        similarity: what is measured of the candidates.
    """
    image = 0
    for batch in batches:
        for matches in nearest(batch):
            found = similarity(matches)
            best = max(range(len(matches)), key=found.__getitem__)
            yield Pair(image, found[best], matches[best])
            image += 1


class CleanTraining:
    """Clean images as measurements by the identity, to search them as corrupted ones are searched.

    Args:
        pool: the images.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __len__(self) -> int:
        return len(self._pool)

    def measurements(self, indices: list[int]) -> Measurements:
        """Some images."""
        ordered = indices == list(range(indices[0], indices[0] + len(indices)))
        images = (
            self._pool.take(indices[0], indices[-1] + 1)
            if ordered
            else torch.cat([self._pool.take(i, i + 1) for i in indices])
        )
        return Measurements(images, Identity(torch.zeros_like(images[:1])), torch.zeros(len(images)))
