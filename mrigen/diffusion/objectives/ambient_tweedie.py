"""Ambient Diffusion of noisy masked measurements."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.diffusion.denoiser import Denoiser
from mrigen.diffusion.noise import per_sample
from mrigen.diffusion.objectives.ambient import MaskedObjective
from mrigen.diffusion.objectives.base import OBJECTIVES, ObjectiveParams
from mrigen.errors import UsageError
from mrigen.operators.base import Measurements, linear, randn_like, sent
from mrigen.operators.corruption import Corruption


@OBJECTIVES.register("ambient-tweedie")
class AmbientTweedie(MaskedObjective):
    """λ(σ_t) ‖N f + σ²/σ_t² (x̃_t − Ñ f) − Aᴴ y‖² for y = A x + σ ε, f = f(x̃_t, Ã, σ_t).

    x̃_t = Ãᴴ(y + √(σ_t² − σ²) ε') is Ñ(x + σ_t ε) in law where N and Ñ are projections, and σ_t is
    clipped from below at the data's σ. What Ã hides of Aᴴ y has noise that the input knows nothing of:
    its conditional mean is (N − Ñ) E[x | x̃_t, Ã]. What Ã shows has noise that is also in the input, so that
    Tweedie's formula applies to it: Ãᴴ y has the conditional mean
    (1 − σ²/σ_t²) Ñ E[x | x̃_t, Ã] + σ²/σ_t² x̃_t. Their sum is the bracket above with
    f = E[x | x̃_t, Ã], which is the only minimiser for σ_t > σ under theorem 4.1 of Ambient Diffusion. It is
    eq. 3.2 of that paper for σ = 0, and eq. 8 of RSD for A = Ã = I.

    Raises:
        UsageError: the data have no noise, N is no projection (several coils), or the masks reveal what
            was not measured.
    """

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        super().__init__(params, corruption)
        if not corruption.noise:
            raise UsageError(
                "objective ambient-tweedie cannot use this corruption: its measurements have no noise "
                "(σ = 0); use ambient"
            )
        if not _projects(corruption):
            raise UsageError(
                "objective ambient-tweedie cannot use this corruption: Aᴴ A is no projection (several coils, "
                "for example), so that measurement noise is not diffusion noise seen through A; use ambient "
                "and leave the noise out of the recipe if it is weak"
            )

    def __call__(self, denoiser: Denoiser, batch: Measurements, generator: torch.Generator) -> Tensor:
        """Loss per sample on noisy measurements."""
        A, further = self.operators(batch, generator)
        drawn = sent(self.params.noise.draw(len(batch), generator), batch.y.device)
        sigma = drawn.maximum(batch.sigma)
        added = (sigma**2 - batch.sigma**2).sqrt()
        seen = further.adjoint(batch.y + further.noise(batch.y, added, generator))
        estimate = denoiser(seen, sigma, further, batch.labels, batch.augment)
        share = per_sample((batch.sigma / sigma) ** 2)
        predicted = A.normal(estimate) + share * (seen - further.normal(estimate))
        return self.weighted_error(predicted - A.adjoint(batch.y), sigma, further)

    @property
    def floor(self) -> float:
        """The data's smallest noise level."""
        return self.corruption.noise.low


def _projects(corruption: Corruption) -> bool:
    """Whether N N = N for an operator of the corruption."""
    generator = seeds.generator(0, "projection")
    A = linear(corruption.draw(1, generator))
    once = A.normal(randn_like(A.zero_image(), generator))
    return bool((A.normal(once) - once).abs().max() <= 1e-4 * once.abs().max())
