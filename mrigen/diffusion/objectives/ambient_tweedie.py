"""Ambient Diffusion of noisy masked measurements."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen import seeds
from mrigen.denoiser import Denoiser
from mrigen.diffusion.objectives.ambient import MaskedObjective
from mrigen.diffusion.objectives.base import OBJECTIVES, ObjectiveParams
from mrigen.diffusion.schedules import per_sample
from mrigen.errors import UsageError
from mrigen.operators.base import Operator, linear
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import Measurements
from mrigen.operators.mri import MultiCoilMRI, SeededMRI


@OBJECTIVES.register("ambient-tweedie")
class AmbientTweedie(MaskedObjective):
    """λ(σ_t) ‖N f + σ²/σ_t² (x̃_t − Ñ f) − Aᴴ y‖² for y = A x + σ ε, f = f(x̃_t, Ã, σ_t).

    The diffusion's noise is measurement noise, white on each measured point: with fresh ε' on those of Ã,
    y_t = y + √(σ_t² − σ²) ε' and x̃_t = Ãᴴ y_t, of noise covariance σ_t² Ñ; σ_t is clipped from below at
    each sample's own σ. The denoiser is E[x | x̃_t, Ã], which is E[x | Ã y_t, Ã], for x̃_t is sufficient. What
    Ã hides of y has noise that the input knows nothing of: its conditional mean is (A − Ã) E[x | x̃_t, Ã].
    What Ã shows has noise that is also in the input, so that Tweedie's formula applies to every measured
    point: its conditional mean is (1 − σ²/σ_t²) Ã E[x | x̃_t, Ã] + σ²/σ_t² y_t. Their sum, seen through Aᴴ,
    is the bracket above with f = E[x | x̃_t, Ã], up to Aᴴ y. Because Ã only drops from A, AᴴÃ = Ñ, and the
    loss is

        E ‖(N − σ²/σ_t² Ñ)(f − E[x | x̃_t, Ã])‖² + const,

    whose only minimiser for σ_t > σ is the conditional mean under theorem 4.1 of Ambient Diffusion. It is eq.
    3.2 of that paper for σ = 0 and a projection, and eq. 8 of RSD for A = Ã = I.

    Where Ñ is a projection, x̃_t is Ñ(x + σ_t ε) in law. For several coils it is not: noise that is white in
    the image and seen through Ñ has the covariance σ_t² Ñ². ``predict`` adds what it lacks, of covariance
    σ_t² (Ñ − Ñ²) and fixed by Ã's seed, see ``SeededMRI``. Samplers are then exact for the seen part:
    with x̃ = Ñ x + σ w the equation dx/dσ = (x − f)/σ becomes dx̃/dσ = (x̃ − Ñ f)/σ, the probability flow of
    Ãᴴ(Ã x₀ + σ ε'), which starts from the right law.

    Raises:
        UsageError: the data have no noise or nobody knows it, N is neither a projection nor that of several
            coils, or the masks reveal what was not measured.
    """

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        super().__init__(params, corruption.noisy())
        if not self.corruption.noise:
            raise UsageError(
                "objective ambient-tweedie cannot use this corruption: its measurements have no noise "
                "(σ = 0); use ambient"
            )
        A = linear(self.corruption.draw(1, seeds.seeded_rng(0, "projection")))
        if not (isinstance(A, MultiCoilMRI) or A.is_projection):
            raise UsageError(
                f"objective ambient-tweedie cannot use this corruption: Aᴴ A of {type(A).__name__} is no "
                "projection, so that measurement noise is not diffusion noise seen through A; use ambient "
                "and leave the noise out of the recipe if it is weak"
            )

    def __call__(self, denoiser: Denoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Loss per sample on noisy measurements."""
        A, further = self.operators(batch, rng)
        drawn = self.levels(batch, rng)
        sigma = drawn.maximum(batch.sigma)
        added = (sigma**2 - batch.sigma**2).sqrt()
        network_input = further.adjoint(batch.y + further.noise(batch.y, added, rng))
        estimate = denoiser(network_input, sigma, further, batch.labels, batch.augment)
        share = per_sample((batch.sigma / sigma) ** 2)
        predicted = A.normal(estimate) + share * (network_input - further.normal(estimate))
        return self.weighted_error(predicted - A.adjoint(batch.y), sigma, further)

    def corrupt_further(self, operator: Operator, corruption: Corruption, rng: torch.Generator) -> Operator:
        """Ã ~ p(Ã | A); of several coils with a seed for the noise that ``predict`` adds."""
        further = super().corrupt_further(operator, corruption, rng)
        if not isinstance(further, MultiCoilMRI):
            return further
        drawn = torch.randint(2**62, (len(further.zero_image()),), generator=rng)
        return SeededMRI(further.maps, further.mask, tuple(drawn.tolist()))

    def predict(
        self,
        denoiser: Denoiser,
        noisy: Tensor,
        sigma: Tensor,
        further: Operator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """E[x | x̃, Ã] of x̃ = Ñ(x + σ ε) + σ w, whose noise is that of measurements."""
        network_input = self.observe(noisy, further)
        if isinstance(further, SeededMRI):
            network_input = network_input + per_sample(sigma) * further.completion()
        return denoiser(network_input, sigma, further, labels)

    def least_levels(self, sigma: Tensor) -> Tensor:
        """The noise itself."""
        return sigma

    @property
    def floor(self) -> float:
        """The data's smallest noise level."""
        return self.corruption.noise.low
