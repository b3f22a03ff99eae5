"""The metric by which distillation keeps its best generator."""

from __future__ import annotations

import math

from torch import Tensor

from mrigen.data.stores import Store
from mrigen.diffusion.objectives import Objective
from mrigen.engine.distillation import SelectionMetric
from mrigen.engine.params import DistillParams
from mrigen.engine.sampling import StudentSampler
from mrigen.losses import Generator
from mrigen.metrics.features import AnyExtractor
from mrigen.metrics.proximal import EmpiricalCorruption, ProximalDistance
from mrigen.tensors import evenly_spaced


def selection_score(
    params: DistillParams, store: Store, extractor: AnyExtractor, seed: int, objective: Objective
) -> SelectionMetric:
    """Proximal distance of a generator from the training data.

    A generator whose images are no numbers is infinitely far.
    """
    distance = proximal_distance(store, extractor, params.selection.samples, seed)
    sampled = objective.corruption if params.generator_input == "sampled" else None

    def score(generator: Generator) -> float:
        sampler = StudentSampler(generator, store.image_shape, 256, objective, sampled)
        try:
            return distance(lambda image_seeds: map(_finite, sampler(image_seeds)))
        except FloatingPointError:
            return math.inf

    return score


def proximal_distance(store: Store, extractor: AnyExtractor, samples: int, seed: int) -> ProximalDistance:
    """Proximal distance from at most so many samples of a store, spread evenly over it."""
    count = min(samples, len(store))
    batch = store.measurements(evenly_spaced(len(store), count))
    return ProximalDistance(
        batch.operator.as_image(batch.y), EmpiricalCorruption(store), extractor, count, seed
    )


def _finite(images: Tensor) -> Tensor:
    if not bool(images.isfinite().all()):
        raise FloatingPointError("images are no numbers")
    return images
