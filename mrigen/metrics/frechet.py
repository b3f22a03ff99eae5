"""Fréchet distance between Gaussians fitted to features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Mean (d,), covariance (d, d) and number of samples of a set of features."""

    mean: Array
    covariance: Array
    count: int

    @cached_property
    def root(self) -> Array:
        """Symmetric square root of the covariance, computed once."""
        values, vectors = np.linalg.eigh(self.covariance)
        root: Array = (vectors * np.sqrt(_significant(values))) @ vectors.T
        return root


def statistics(features: NDArray[np.floating] | Tensor) -> Statistics:
    """Gaussian fitted to features (n, d), in float64.

    Raises:
        ValueError: fewer than two samples, or a feature that is not finite.
    """
    values = np.asarray(features, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("the Fréchet distance needs at least two samples of finite features")
    return Statistics(values.mean(0), np.cov(values, rowvar=False).reshape(values.shape[1], -1), len(values))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_b^{1/2} Σ_a Σ_b^{1/2})^{1/2}) (Heusel et al. 2017).

    The trace of the square root is taken from the eigenvalues of the symmetric product, which are
    real and not negative up to rounding; those within rounding of zero count as zero.
    """
    inner = _significant(np.linalg.eigvalsh(b.root @ a.covariance @ b.root))
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(inner).sum()
    return float(np.sum((a.mean - b.mean) ** 2) + spread)


def bootstrap_interval(
    features: NDArray[np.floating] | Tensor,
    reference: Statistics,
    resamples: int,
    rng: torch.Generator,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of the Fréchet distance of a set from a fixed reference.

    Percentiles of the distances of sets that are drawn from the features with replacement, shifted so
    that their median is the distance of the features themselves: repeated samples raise a Fréchet
    distance, which says nothing of its spread. The bias of a small n is not in the interval.

    With X centred features, tr((Σ_b^{1/2} Σ_a Σ_b^{1/2})^{1/2}) is the sum of the singular values of
    X Σ_b^{1/2} / √(n − 1), so that the root of the reference is taken once.

    Args:
        features: (n, d).
        reference: statistics of the reference.
        resamples: number of sets.
        rng: source of the draws.
        level: probability of the interval.
    """
    values = np.asarray(features, np.float64)
    turned = values @ reference.root
    count = len(values)

    def distance(index: NDArray[np.int64]) -> float:
        drawn, rotated = values[index], turned[index]
        mean = drawn.mean(0)
        rotated -= rotated.mean(0)
        gram = rotated.T @ rotated if count > values.shape[1] else rotated @ rotated.T
        inner = np.sqrt(_significant(np.linalg.eigvalsh(gram)) / (count - 1)).sum()
        spread = ((drawn - mean) ** 2).sum() / (count - 1) + np.trace(reference.covariance) - 2 * inner
        return float(((mean - reference.mean) ** 2).sum() + spread)

    draws = [torch.randint(count, (count,), generator=rng).numpy() for _ in range(resamples)]
    distances = [distance(index) for index in draws]
    estimate = distance(np.arange(count))
    tail = (1 - level) / 2
    low, middle, high = np.quantile(distances, [tail, 0.5, 1 - tail])
    return max(0.0, float(estimate + low - middle)), float(estimate + high - middle)


def _significant(eigenvalues: NDArray[np.floating]) -> Array:
    """Eigenvalues of a positive semidefinite matrix, zero where they are rounding.

    The square roots of rounding errors would add up where there are fewer samples than features.
    """
    rounding = len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues.max()
    return np.where(eigenvalues > rounding, eigenvalues, 0.0)
