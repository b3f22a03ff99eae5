"""Ambient Diffusion, for pixel masks and for multi-coil Fourier masks alike."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.denoiser import Denoiser
from mrigen.diffusion.noise import per_sample
from mrigen.diffusion.objectives.base import OBJECTIVES, Objective, ObjectiveParams, squared_error
from mrigen.errors import UsageError
from mrigen.operators.base import LinearOperator, Measurements, Operator, linear, randn_like, sent
from mrigen.operators.corruption import Corruption


class MaskedObjective(Objective):
    """Learns x from A x by hiding a little more of it: the network sees Ñ of a noisy x and is told the mask.

    N = Aᴴ A and Ñ = Ãᴴ Ã with Ã ~ p(Ã | A).

    Raises:
        UsageError: the masks reveal what was not measured (theorem 4.1).
    """

    shows_mask = True

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        super().__init__(params, corruption)
        if corruption.reason:
            raise UsageError(f"ambient training cannot use this corruption: {corruption.reason}")

    def operators(
        self, batch: Measurements, generator: torch.Generator
    ) -> tuple[LinearOperator, LinearOperator]:
        """A and Ã; the further corruption is drawn anew unless the batch has one.

        Raises:
            UsageError: A is not linear.
        """
        A = linear(batch.operator)
        if batch.further is not None:
            return A, linear(batch.further)
        return A, linear(self.further(A, self.corruption, generator))

    def signal(self, x: Tensor, operator: Operator, sigma: Tensor, generator: torch.Generator) -> Tensor:
        """The clean image itself."""
        del operator, sigma, generator
        return x

    def augment(self, batch: Measurements, by: Augmentation, generator: torch.Generator) -> Measurements:
        """Mirrors, the only transforms that map a mask to a mask.

        Raises:
            UsageError: the operator cannot be mirrored.
        """
        return by.mirror(batch, generator)

    def further(self, operator: Operator, corruption: Corruption, generator: torch.Generator) -> Operator:
        """Ã ~ p(Ã | A)."""
        return corruption.further(operator, generator)

    def observe(self, noisy: Tensor, further: Operator) -> Tensor:
        """Ñ of the noisy image."""
        return linear(further).normal(noisy)

    def conditioning(self, further: Operator) -> Tensor | None:
        """The further mask."""
        return further.conditioning()

    def compare(self, difference: Tensor, operator: Operator) -> Tensor:
        """N of the difference: errors that the measurement cannot see do not count."""
        return linear(operator).normal(difference)


@OBJECTIVES.register("ambient")
class Ambient(MaskedObjective):
    """λ(σ) ‖N f(Ñ(x + σ ε), Ã, σ) − N x‖².

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

    def __call__(self, denoiser: Denoiser, batch: Measurements, generator: torch.Generator) -> Tensor:
        """Loss per sample on measurements."""
        A, further = self.operators(batch, generator)
        target = A.adjoint(batch.y)
        sigma = sent(self.params.noise.draw(len(batch), generator), batch.y.device)
        noise = per_sample(sigma) * randn_like(target, generator)
        seen = further.adjoint(batch.y) + further.normal(noise)
        estimate = denoiser(seen, sigma, further.conditioning(), batch.labels, batch.augment)
        return self.weight(sigma) * squared_error(A.normal(estimate) - target)
