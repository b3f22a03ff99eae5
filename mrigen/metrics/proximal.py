"""Proximal distance: how far corrupted samples are from the corrupted training data (RSD, section 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.data.images import ImageSet
from mrigen.data.stores import Store
from mrigen.metrics.distance import Reference
from mrigen.metrics.features import AnyExtractor
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import Measurements

Sample = Callable[[list[int]], Iterable[Tensor]]
"""Generated images for a list of seeds, in batches."""


class EmpiricalCorruption(Corruption):
    """The corruption of a store's own samples: operator and noise of random ones, drawn together.

    Args:
        store: measurements.
    """

    def __init__(self, store: Store) -> None:
        corruption = store.corruption()
        self._store, self._corruption = store, corruption
        self.noise, self.ambient_obstacle, self.baseline = (
            corruption.noise,
            corruption.ambient_obstacle,
            corruption.baseline,
        )

    def draw(self, batch: int, rng: torch.Generator) -> Operator:
        """Operators of random samples."""
        return self._drawn(batch, rng).operator

    def corrupt_further(self, operator: Operator, rng: torch.Generator) -> Operator:
        """As the law of the data has it."""
        return self._corruption.corrupt_further(operator, rng)

    def measure(self, x: Tensor, rng: torch.Generator) -> Measurements:
        """Measure y = A x + σ ε with A and σ of the same sample."""
        drawn = self._drawn(len(x), rng)
        y = drawn.operator.forward(x)
        if bool(drawn.sigma.any()):
            y = y + drawn.operator.noise(y, drawn.sigma, rng)
        return replace(drawn, y=y)

    def _drawn(self, batch: int, rng: torch.Generator) -> Measurements:
        index = torch.randint(len(self._store), (batch,), generator=rng).tolist()
        return replace(self._store.measurements(index), sigma=self._store.noise_levels(index))


def zero_filled_images(store: Store) -> ImageSet:
    """Aᴴ y of every sample of a store."""

    def take(first: int, last: int) -> Tensor:
        data = store.measurements(list(range(first, last)))
        return data.operator.as_image(data.y)

    channels, height, width = take(0, 1).shape[1:]
    return ImageSet(str(store.folder), len(store), (channels, height, width), store.complex_valued, take)


def corrupted_images(batches: Iterable[Tensor], corruption: Corruption, seed: int) -> Iterator[Tensor]:
    """Generated images as the data would show them: Aᴴ(A x + noise).

    Operators and noise depend on the seed and the number of the batch alone.

    Args:
        batches: images (B, C, H, W).
        corruption: of the data.
        seed: key of operators and noise.
    """
    for number, images in enumerate(batches):
        measured = corruption.measure(images.cpu(), seeds.seeded_rng(seed, "proximal", number))
        yield measured.operator.as_image(measured.y)


class ProximalDistance:
    """Fréchet distance between Aᴴ(A x_g + noise) of generated images and Aᴴ y of the data.

    No clean image is needed. Seeds and operators are the same at every call, so that differences
    between calls come from the generator.

    Args:
        data: Aᴴ y of the training data (n, C, H, W).
        corruption: law of the data's operators; for MRI maps and masks are drawn together from the
            store.
        extractor: feature extractor.
        samples: generated images per call.
        seed: key of the operators and noise.
    """

    def __init__(
        self, data: Tensor, corruption: Corruption, extractor: AnyExtractor, samples: int, seed: int
    ) -> None:
        self._reference = Reference.of(data, extractor)
        self._corruption, self._samples, self._seed = corruption, samples, seed

    def __call__(self, sample: Sample) -> float:
        """Distance of the images that ``sample`` makes of seeds 0 ... samples - 1."""
        images = sample(list(range(self._samples)))
        return self._reference.distance(corrupted_images(images, self._corruption, self._seed))
