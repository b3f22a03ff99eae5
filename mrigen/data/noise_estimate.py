"""σ of noisy images whose noise level nobody knows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrigen.errors import UsageError
from mrigen.registry import Params

TRIAL = 100
"""Images over which DCD takes the maximum."""
ROUNDING = 1e-12
"""Detail of a constant image in units of its value."""
SMALLEST = 16
"""Pixels on a side below which the finest wavelets see the image: 0.985 for 0.5 on digits of 8 x 8."""
SIDE = 5
ENOUGH = 100 * SIDE**2
"""Patches from which the smallest eigenvalue of their covariance is off by at most a fifth."""
AGREEMENT = 1.5


class NoiseEstimate(Params):
    """A noise level and how far it would be off with other images.

    Attributes:
        sigma: median of the estimator's law, which training uses.
        low: its quantile at 2.5 %.
        high: its quantile at 97.5 %.
        images: number of images that told something.
        patches: the second estimate, from patches; None for fewer than 2,500 of them.
    """

    sigma: float
    low: float
    high: float
    images: int
    patches: float | None = None


def estimate_sigma(images: Iterable[NDArray[Any] | Tensor]) -> NoiseEstimate:
    """Standard deviation of white noise in images, rather too high than too low.

    Each image is estimated by the median of its finest diagonal wavelet coefficients (Donoho and
    Johnstone 1994; ``skimage.restoration.estimate_sigma``), which texture biases upwards. The
    estimator is the maximum over m = 100 images, or over all if there are fewer (DCD, section 4.4):
    for training, an overestimate does little harm, an underestimate much.

    With n images of estimates s_(1) ≤ … ≤ s_(n), the maximum over m of them, drawn with replacement,
    has the law P(max ≤ s_(k)) = (k/n)^m, whose quantiles are reported; those of DCD's repeated trials
    tend to them. For n ≤ 100 the estimate is the largest s. The interval is that of the estimator;
    the true σ lies below it where images have texture.

    A second estimate is the root of the smallest eigenvalue of the covariance of all patches of 5 x 5
    pixels (as Pyatykh et al. 2013 have it for one image): white noise adds σ² to every eigenvalue, and
    patches of images have directions of almost no variance. Noise that is not white and images that are all
    texture make the two differ.

    Args:
        images: each (C, H, W) or (H, W), real; as many as there is time for, a millisecond or so each.

    Raises:
        UsageError: no image has pixels that differ, images are smaller than 16 x 16, or the two estimates
            differ by more than a factor of 1.5.
    """
    levels, patches = [], _Patches()
    for image in images:
        array = np.asarray(image, np.float64)
        level = _one(array)
        if level > 0:
            levels.append(level)
            patches.add(array)
    if not levels:
        raise UsageError("noise cannot be estimated: no image has pixels that differ; give noise as a number")
    levels.sort()
    count = len(levels)
    trial = min(TRIAL, count)

    def quantile(share: float) -> float:
        return float(levels[max(1, math.ceil(count * share ** (1 / trial) - 1e-9)) - 1])

    estimate, second = quantile(0.5), patches.sigma()
    _require_agreement(estimate, second, patches.smallest)
    return NoiseEstimate(
        sigma=estimate, low=quantile(0.025), high=quantile(0.975), images=count, patches=second
    )


class _Patches:
    """Mean and covariance of the patches of images."""

    def __init__(self) -> None:
        self.count, self.smallest = 0, SMALLEST
        self.total, self.products = np.zeros(SIDE**2), np.zeros((SIDE**2, SIDE**2))

    def add(self, image: NDArray[np.float64]) -> None:
        """All patches of all channels of an image."""
        self.smallest = min(self.smallest, *image.shape[-2:])
        if min(image.shape[-2:]) < SIDE:
            return
        windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE), axis=(-2, -1))
        rows = windows.reshape(-1, SIDE**2)
        self.count += len(rows)
        self.total += rows.sum(0)
        self.products += rows.T @ rows

    def sigma(self) -> float | None:
        """Root of the smallest eigenvalue of their covariance; None for too few."""
        if self.count < ENOUGH:
            return None
        mean = self.total / self.count
        covariance = self.products / self.count - np.outer(mean, mean)
        return math.sqrt(max(0.0, float(np.linalg.eigvalsh(covariance)[0])))


def _require_agreement(wavelets: float, patches: float | None, smallest: int) -> None:
    """Refuse an estimate that cannot be trusted.

    Args:
        wavelets: the estimate.
        patches: the second estimate, or None.
        smallest: smallest side of an image, at most ``SMALLEST``.

    Raises:
        UsageError: says both.
    """
    words = f"by wavelets σ is {wavelets:.3g}"
    words += "" if patches is None else f", by the smallest variance of patches {patches:.3g}"
    if smallest < SMALLEST:
        raise UsageError(
            f"noise cannot be estimated: images have {smallest} pixels on a side, fewer than {SMALLEST}; "
            f"{words}; give noise as a number"
        )
    if patches is not None and not patches / AGREEMENT <= wavelets <= patches * AGREEMENT:
        raise UsageError(
            f"noise cannot be estimated: {words}; images are all texture, or their noise is not white: give "
            "noise as a number"
        )


def _one(image: NDArray[np.float64]) -> float:
    """Mean over an image's channels of their estimates, 0 where no channel has any detail."""
    from skimage.restoration import estimate_sigma as wavelet_estimate

    planes = image.reshape(-1, *image.shape[-2:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        warnings.filterwarnings("ignore", "invalid value", RuntimeWarning)
        estimates = np.array([wavelet_estimate(plane) for plane in planes])
    positive = estimates[estimates > ROUNDING * np.abs(image).max(initial=0)]
    return float(positive.mean()) if len(positive) else 0.0
