"""Proximal distance: how far corrupted samples are from the corrupted training data (RSD, section 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from mrigen import seeds
from mrigen.metrics.distance import Reference
from mrigen.operators.corruption import Corruption

Sample = Callable[[list[int]], Iterable[Tensor]]
"""Generated images for a list of seeds, in batches."""


class ProximalDistance:
    """Fréchet distance between Aᴴ(A x_g + noise) of generated images and Aᴴ y of the data.

    No clean image is needed. Seeds and operators are the same at every call, so that differences
    between calls come from the generator.

    Args:
        observed: Aᴴ y of the training data (n, C, H, W).
        corruption: law of the data's operators; for MRI maps and masks are drawn together from the
            store.
        extractor: feature extractor.
        samples: generated images per call.
        seed: key of the operators and noise.
    """

    def __init__(
        self,
        observed: Tensor,
        corruption: Corruption,
        extractor: FeatureExtractorBase,
        samples: int,
        seed: int,
    ) -> None:
        self._reference = Reference.of(observed, extractor)
        self._corruption, self._samples, self._seed = corruption, samples, seed

    def __call__(self, sample: Sample) -> float:
        """Distance of the images that ``sample`` makes of seeds 0 ... samples - 1."""
        return self._reference.distance(
            self._observe(number, images) for number, images in enumerate(sample(list(range(self._samples))))
        )

    def _observe(self, number: int, images: Tensor) -> Tensor:
        generator = seeds.generator(self._seed, "proximal", number)
        measured = self._corruption.measure(images.cpu(), generator)
        return measured.operator.as_image(measured.y)
