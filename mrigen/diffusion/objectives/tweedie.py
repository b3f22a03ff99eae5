"""Ambient Tweedie: the noiseless law from noisy measurements."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.denoiser import Denoiser
from mrigen.diffusion.consistency import ConsistencyParams, inconsistency
from mrigen.diffusion.objectives.base import OBJECTIVES, ObjectiveParams, squared_error
from mrigen.diffusion.objectives.standard import ImageObjective
from mrigen.diffusion.schedules import per_sample
from mrigen.errors import UsageError
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like


class TweedieParams(ObjectiveParams):
    """Parameters of Ambient Tweedie.

    Attributes:
        consistency: the term that trains below the data's noise level; None for none.
    """

    consistency: ConsistencyParams | None = None


@OBJECTIVES.register("tweedie")
class Tweedie(ImageObjective):
    """λ(σ_t) ‖(1 − σ²/σ_t²) f(y_t, σ_t) + σ²/σ_t² y_t − y‖², y_t = y + √(σ_t² − σ²) ε.

    RSD eq. 8, DCD eq. 15 (Daras et al. 2024): of y = A x + σ ε the denoiser models A x, because
    E[y | y_t] = (1 − σ²/σ_t²) E[A x | y_t] + σ²/σ_t² y_t. σ_t is clipped from below at each sample's own
    σ, where the loss vanishes: nothing is learnt about levels below, except by ``consistency``.
    The noise of the measurement as an image must be white; missing pixels are filled with noise,
    so that a masked noisy image is modelled as an image with zeros in it.

    Raises:
        UsageError: the data have no noise, or it is correlated in the image.
    """

    Params: ClassVar[type[ObjectiveParams]] = TweedieParams
    params: TweedieParams

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        super().__init__(params, corruption)
        if not corruption.noise:
            raise UsageError(
                "objective tweedie cannot use this corruption: its measurements have no noise (σ = 0) to be "
                "accounted for, nor levels below it for a consistency term; use standard"
            )
        rng = seeds.seeded_rng(0, "white")
        A = corruption.draw(1, rng)
        A.whitened_image(A.forward(A.zero_image()), torch.zeros(1), rng)

    def __call__(self, denoiser: Denoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Loss per sample, on the measurements as images."""
        y, data = self.images(batch, rng)
        sigma = self.levels(batch, rng).maximum(data)
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

    def images(self, batch: Measurements, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The measurements as images with white noise."""
        return batch.operator.whitened_image(batch.y, batch.sigma, rng)

    def signal(self, x: Tensor, operator: Operator, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """A x without noise, as an image: the denoiser has already accounted for it (RSD algorithm 6)."""
        del sigma, rng
        return operator.as_image(operator.forward(x))
