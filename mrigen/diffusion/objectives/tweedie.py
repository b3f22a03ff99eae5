"""Ambient Tweedie: the noiseless law from noisy measurements."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.diffusion.consistency import ConsistencyParams, inconsistency
from mrigen.diffusion.objectives.base import OBJECTIVES, ObjectiveParams, squared_error
from mrigen.diffusion.objectives.standard import NoisyImageObjective
from mrigen.diffusion.schedules import per_sample
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like


class TweedieParams(ObjectiveParams):
    """Parameters of Ambient Tweedie.

    Attributes:
        consistency: the term that trains below the data's noise level; None for none.
    """

    consistency: ConsistencyParams | None = None


@OBJECTIVES.register("tweedie")
class Tweedie(NoisyImageObjective):
    """λ(σ_t) ‖(1 − σ²/σ_t²) f(y_t, σ_t) + σ²/σ_t² y_t − y‖², y_t = y + √(σ_t² − σ²) ε.

    RSD eq. 8, DCD eq. 15 (Daras et al. 2024): of y = A x + σ ε the denoiser models A x, because
    E[y | y_t] = (1 − σ²/σ_t²) E[A x | y_t] + σ²/σ_t² y_t. σ_t is drawn above each sample's own σ, for at σ
    the loss vanishes: nothing is learnt about levels below, except by ``consistency``.
    """

    Params: ClassVar[type[ObjectiveParams]] = TweedieParams
    params: TweedieParams

    def __call__(self, denoiser: Denoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Loss per sample, on the measurements as images."""
        y, data = self.images(batch, rng)
        if batch.levels is None:
            sigma = self.params.noise.draw_above(data, rng)
        else:
            sigma = batch.levels.maximum(data)
        noisy = y + per_sample((sigma**2 - data**2).sqrt()) * randn_like(y, rng)
        estimate = denoiser(noisy, sigma, None, batch.labels, batch.augment)
        share = per_sample((data / sigma) ** 2)
        loss = self.weight(sigma) * squared_error((1 - share) * estimate + share * noisy - y)
        if self.params.consistency is None:
            return loss
        return loss + self._consistency(denoiser, batch, noisy, sigma, estimate, rng)

    def _consistency(
        self,
        denoiser: Denoiser,
        batch: Measurements,
        noisy: Tensor,
        sigma: Tensor,
        estimate: Tensor,
        rng: torch.Generator,
    ) -> Tensor:
        """The weighted term, (B,): on the first images, scaled so that its mean is over those."""
        params = self.params.consistency
        assert params is not None
        few = slice(params.images)
        lower = self.params.noise.draw_below(sigma[few], rng)
        conditions = [
            None if conditions is None else conditions[few] for conditions in (batch.labels, batch.augment)
        ]
        term = inconsistency(params, denoiser, noisy[few], sigma[few], estimate[few], lower, rng, *conditions)
        term = params.weight * self.weight(sigma[few]) * term * (len(batch) / len(lower))
        return torch.cat([term, term.new_zeros(len(batch) - len(lower))])

    def least_levels(self, sigma: Tensor) -> Tensor:
        """The noise itself."""
        return sigma

    @property
    def floor(self) -> float:
        """The data's smallest noise level, or 0 where the consistency term trains below it."""
        return self.corruption.noise.low if self.params.consistency is None else 0.0
