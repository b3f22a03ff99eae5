"""Fréchet distance between Gaussians fitted to features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Mean (d,), covariance (d, d) and number of samples of a set of features."""

    mean: Array
    covariance: Array
    count: int


def statistics(features: NDArray[np.floating]) -> Statistics:
    """Fit a Gaussian to features (n, d), in float64.

    Raises:
        ValueError: fewer than two samples, or a feature that is not finite.
    """
    values = np.asarray(features, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("the Fréchet distance needs at least two samples of finite features")
    return Statistics(values.mean(0), np.cov(values, rowvar=False).reshape(values.shape[1], -1), len(values))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a^{1/2} Σ_b Σ_a^{1/2})^{1/2}) (Heusel et al. 2017).

    The trace of the square root is taken from the eigenvalues of the symmetric product, which are
    real and not negative up to rounding.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b.covariance @ root).clip(0)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(inner).sum()
    return float(np.sum((a.mean - b.mean) ** 2) + spread)
