"""SURE-Score: a denoiser by Stein's unbiased risk estimate, and a score of what it makes of the data."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mrigen.denoiser import Denoiser, to_channels
from mrigen.diffusion.objectives.base import OBJECTIVES, ObjectiveParams, squared_error
from mrigen.diffusion.objectives.standard import NoisyImageObjective
from mrigen.diffusion.schedules import Karras, per_sample
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like

Positive = Annotated[float, Field(gt=0)]


class SUREScoreParams(ObjectiveParams):
    """Parameters of SURE-Score.

    Attributes:
        risk_weight: of the risk at the data's noise level, beside denoising score matching.
        probe: size of the step whose difference quotient is the divergence, in units of the image.
            Networks in 16 bits round away differences of a small step.
    """

    risk_weight: Positive = 1.0
    probe: Positive = 1e-3


@OBJECTIVES.register("sure-score")
class SUREScore(NoisyImageObjective):
    """w λ(σ) SURE(f) + λ(σ_t) ‖f(x̂ + σ_t ε, σ_t) − x̂‖² with x̂ = f(y, σ), one network for both.

    SURE-Score (Aali et al. 2023). Of y = A x + σ ε with n real components Stein's estimate

        SURE(f) = (‖f(y, σ) − y‖² + 2 σ² div f(y, σ)) / n − σ²

    has the mean E ‖f(y, σ) − A x‖² / n, so that its minimiser is E[A x | y]; the divergence is estimated by
    bᵀ(f(y + h b) − f(y)) / h for a random normal b (Ramani et al. 2008). All other noise levels learn by
    denoising score matching with x̂ in the place of clean images. x̂ is a constant there: the score trains
    no target that is easy for it.

    The x̂ are means: with data N(0, C) their law is N(0, C (C + σ² I)⁻¹ C), narrower than N(0, C), and that is
    what the score models. ``tweedie`` has no such bias above the data's σ.
    """

    Params: ClassVar[type[ObjectiveParams]] = SUREScoreParams
    params: SUREScoreParams

    def __call__(self, denoiser: Denoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Loss per sample, on the measurements as images."""
        y, data = self.images(batch, rng)
        conditions = (None, batch.labels, batch.augment)
        level = data.clamp(min=Karras().sigma_min)
        restored = denoiser(y, level, *conditions)
        b = randn_like(y, rng)
        moved = denoiser(y + self.params.probe * b, level, *conditions)
        products = to_channels(b) * to_channels(moved - restored) / self.params.probe
        divergence = products.flatten(1).mean(1)
        risk = squared_error(restored - y) + data.square() * (2 * divergence - 1)
        clean, sigma = restored.detach(), self.levels(batch, rng)
        estimate = denoiser(clean + per_sample(sigma) * randn_like(clean, rng), sigma, *conditions)
        matching = self.weight(sigma) * squared_error(estimate - clean)
        return self.params.risk_weight * self.weight(level) * risk + matching
