"""σ of noisy images whose noise level nobody told."""

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


class NoiseEstimate(Params):
    """A noise level and how far it would be off with other images.

    Attributes:
        sigma: median of the estimator's law, which training uses.
        low: its quantile at 2.5 %.
        high: its quantile at 97.5 %.
        images: number of images that told something.
    """

    sigma: float
    low: float
    high: float
    images: int


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

    Args:
        images: each (C, H, W) or (H, W), real; as many as there is time for, a millisecond or so each.

    Raises:
        UsageError: no image has pixels that differ.
    """
    levels = sorted(level for image in images if (level := _one(np.asarray(image, np.float64))) > 0)
    if not levels:
        raise UsageError("noise cannot be estimated: no image has pixels that differ; give noise as a number")
    count = len(levels)
    trial = min(TRIAL, count)

    def quantile(share: float) -> float:
        return float(levels[max(1, math.ceil(count * share ** (1 / trial) - 1e-9)) - 1])

    return NoiseEstimate(sigma=quantile(0.5), low=quantile(0.025), high=quantile(0.975), images=count)


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
