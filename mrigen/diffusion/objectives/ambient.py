"""Ambient Diffusion, for pixel masks and for multi-coil Fourier masks alike."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mrigen.channels import PseudoInverseParams
from mrigen.denoiser import Denoiser
from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.objectives.base import OBJECTIVES, Objective, ObjectiveParams, squared_error
from mrigen.diffusion.schedules import per_sample
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Operator, linear
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import Measurements
from mrigen.tensors import randn_like


class MaskedParams(ObjectiveParams):
    """Parameters of objectives behind masks.

    Attributes:
        pseudo_inverse: form of the denoiser and weight of the loss: what Ã shows and what it hides have
            their own noise level (see ``NetworkDenoiser``); None for EDM's form and weight everywhere, as
            the released models have them.
    """

    pseudo_inverse: PseudoInverseParams | None = PseudoInverseParams()


class MaskedObjective(Objective):
    """Learns x from A x by hiding a little more of it: the denoiser sees Ñ of a noisy x and is given Ã.

    N = Aᴴ A and Ñ = Ãᴴ Ã with Ã ~ p(Ã | A). The error d of a prediction is weighted by component,

        ‖P d / c_out(σ) + (d − P d) / σ_d‖²,  P = (Ñ + τ)⁻¹ Ñ,  1 / c_out² = λ(σ),

    because the error of what Ã shows is of the order of c_out(σ) and that of what it hides of the order of
    σ_d at every σ. Any positive weight that depends on Ã and σ alone leaves the minimiser unchanged (Ambient
    Diffusion, theorem 4.1, holds for each Ã). Without ``pseudo_inverse`` the weight is λ(σ) everywhere, under
    which hidden components at low σ carry most of the loss.

    Raises:
        UsageError: the masks reveal what was not measured (theorem 4.1).
    """

    Params: ClassVar[type[ObjectiveParams]] = MaskedParams
    params: MaskedParams
    conditions_on_mask = True

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        super().__init__(params, corruption)
        if corruption.ambient_obstacle:
            raise UsageError(f"ambient training cannot use this corruption: {corruption.ambient_obstacle}")

    def operators(self, batch: Measurements, rng: torch.Generator) -> tuple[LinearOperator, LinearOperator]:
        """A and Ã; the further corruption is drawn anew unless the batch has one.

        Raises:
            UsageError: A is not linear.
        """
        A = linear(batch.operator)
        if batch.further is not None:
            return A, linear(batch.further)
        return A, linear(self.corrupt_further(A, self.corruption, rng))

    def signal(self, x: Tensor, operator: Operator, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """The clean image itself."""
        del operator, sigma, rng
        return x

    def augment(self, batch: Measurements, by: Augmentation, rng: torch.Generator) -> Measurements:
        """Mirrors, the only transforms that map a mask to a mask.

        Raises:
            UsageError: the operator cannot be mirrored.
        """
        return by.mirror(batch, rng)

    def corrupt_further(self, operator: Operator, corruption: Corruption, rng: torch.Generator) -> Operator:
        """Ã ~ p(Ã | A)."""
        return corruption.corrupt_further(operator, rng)

    def observe(self, noisy: Tensor, further: Operator) -> Tensor:
        """Ñ of the noisy image."""
        return linear(further).normal(noisy)

    def noised(self, batch: Measurements, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """Aᴴ y + N(σ ε), which is N(x + σ ε) of noiseless measurements."""
        A = linear(batch.operator)
        seen = A.adjoint(batch.y)
        return seen + A.normal(per_sample(sigma) * randn_like(seen, rng))

    def weighted_error(self, difference: Tensor, sigma: Tensor, further: LinearOperator) -> Tensor:
        """Loss per sample (B,) of a difference of signals (B, C, H, W) at σ (B,), seen through Ã."""
        weight = self.weight(sigma)
        if self.params.pseudo_inverse is None:
            return weight * squared_error(difference)
        shown = further.pseudo_inverse(**self.params.pseudo_inverse.model_dump()).project(difference)
        hidden = (difference - shown) / self.params.sigma_data
        return squared_error(per_sample(weight.sqrt()) * shown + hidden)

    def compare(self, difference: Tensor, operator: Operator) -> Tensor:
        """N of the difference: errors that the measurement cannot see do not count."""
        return linear(operator).normal(difference)


@OBJECTIVES.register("ambient")
class Ambient(MaskedObjective):
    """‖N f(Ñ(x + σ ε), Ã, σ) − N x‖², weighted by component.

    Ambient Diffusion (Daras et al. 2023), eq. 3.2; its multi-coil form is RSD eq. 10 as DCD table 1
    and the released code have it. Formed from measurements alone: the network's input is
    Ãᴴ y + Ñ(σ ε) and the target is Aᴴ y, which equal Ñ(x + σ ε) and N x when y = A x, because
    Ã only drops from A.

    Raises:
        UsageError: the masks reveal what was not measured (theorem 4.1), or the data are noisy.
    """

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        super().__init__(params, corruption)
        if corruption.noise:
            raise UsageError(
                "objective ambient cannot use this corruption: it would learn the noise of the measurements "
                f"(σ up to {corruption.noise.top:g}) as if it were signal; use ambient-tweedie, or tweedie"
            )

    def __call__(self, denoiser: Denoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Loss per sample on measurements."""
        A, further = self.operators(batch, rng)
        target = A.adjoint(batch.y)
        sigma = self.levels(batch, rng)
        noise = per_sample(sigma) * randn_like(target, rng)
        network_input = further.adjoint(batch.y) + further.normal(noise)
        estimate = denoiser(network_input, sigma, further, batch.labels, batch.augment)
        return self.weighted_error(A.normal(estimate) - target, sigma, further)
