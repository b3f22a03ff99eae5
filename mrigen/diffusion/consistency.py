"""The consistency term, which continues a denoiser below the noise level of its data."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.diffusion.schedules import Karras, Positive, per_sample
from mrigen.registry import Params
from mrigen.tensors import randn_like

Count = Annotated[int, Field(ge=1)]


class ConsistencyParams(Params):
    """The term's weight and cost.

    An image costs ``samples`` · (``steps`` + 1) network evaluations, of which ``samples`` are
    differentiated: 288 and 32 by default, so that a few images per step are enough to train on.

    Attributes:
        weight: of the term beside the loss; DCD chose among 0.1, 1 and 10.
        steps: reverse steps from σ_t to a lower level.
        samples: Monte-Carlo paths, at least 2.
        images: images of each micro-batch that the term is computed on; None for all.
    """

    weight: Positive = 1.0
    steps: Count = 8
    samples: Annotated[int, Field(ge=2)] = 32
    images: Count | None = 4


def inconsistency(
    params: ConsistencyParams,
    denoiser: Denoiser,
    x: Tensor,
    sigma: Tensor,
    estimate: Tensor,
    lower: Tensor,
    rng: torch.Generator,
    labels: Tensor | None = None,
    augment: Tensor | None = None,
) -> Tensor:
    """‖E[f(x_s, s) | x_t] − f(x_t, t)‖² per sample (B,), a mean over real components.

    Along the reverse process the exact denoiser is a martingale, f(x_t, t) = E[f(x_s, s) | x_t] for s < t
    (Daras et al. 2024, "Consistent diffusion meets Tweedie", after Daras et al. 2023): with the levels
    above the data's noise held by Tweedie's loss, that fixes those below. x_s comes from x_t by
    stochastic reverse steps without gradient. The square of the mean over K paths is estimated by the
    products of different paths, (‖Σ d_k‖² − Σ ‖d_k‖²) / (K (K − 1)) with d_k = f(x_s^k, s) − f(x_t, t):
    without bias, so it can be negative, whereas ‖Σ d_k / K‖² would punish variance.

    Args:
        params: steps and paths.
        denoiser: f.
        x: x_t, (B, C, H, W).
        sigma: t, (B,).
        estimate: f(x_t, t).
        lower: s, (B,).
        rng: source of the paths' noise.
        labels: class labels (B, classes).
        augment: augmentation labels (B, 9).
    """
    paths = params.samples

    def copied(value: Tensor) -> Tensor:
        return value.repeat_interleave(paths, 0)

    conditions = [None if value is None else copied(value) for value in (labels, augment)]
    levels = [copied(level) for level in Karras().between(sigma, lower, params.steps)]
    with torch.no_grad():
        walker = copied(x)
        for high, low in pairwise(levels):
            clean = denoiser(walker, high, None, *conditions)
            walker = reverse_step(walker, clean, high, low, randn_like(walker, rng))
    ahead = denoiser(walker, levels[-1], None, *conditions).unflatten(0, (len(x), paths))
    d = ahead - estimate[:, None]
    real = (torch.view_as_real(d) if d.is_complex() else d).flatten(2)
    products = real.sum(1).square() - real.square().sum(1)
    return products.mean(1) / (paths * (paths - 1))


def reverse_step(x: Tensor, clean: Tensor, high: Tensor, low: Tensor, noise: Tensor) -> Tensor:
    """A draw of x_s given x_t and the clean image, s = ``low`` < t = ``high``, both (B,).

    N(x₀ + s²/t² (x_t − x₀), s² (1 − s²/t²)), the posterior of the variance-exploding process.
    """
    ratio = (low / high) ** 2
    spread = low * (1 - ratio).clamp(min=0).sqrt()
    return clean + per_sample(ratio) * (x - clean) + per_sample(spread) * noise
