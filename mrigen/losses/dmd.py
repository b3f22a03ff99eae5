"""Distribution matching distillation under a corruption."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.schedules import KarrasUniform, per_sample
from mrigen.losses.base import (
    LOSSES,
    DiffusedBatch,
    DistillLoss,
    LossParams,
    Regression,
    RegressionParams,
    stop_gradient_loss,
)


class DMDParams(LossParams):
    """Constants of DMD.

    Attributes:
        noise: up to t = 980 of 1000, as published.
        regression: the term on pairs of latents and teacher images; None to leave it out
            (Diff-Instruct, Luo et al. 2023, and DMD2).
    """

    noise: KarrasUniform = KarrasUniform(t_max=980.0)
    regression: RegressionParams | None = None


@LOSSES.register("dmd")
class DMD(DistillLoss):
    """Descent of KL(generated ‖ data), averaged over noise levels (Yin et al. 2024, eq. 7 and 8).

    Since the scores are (f − noisy) / σ², the gradient of the divergence between the noisy laws is
    E[(f_ψ − f_φ) / σ²] with respect to the generated signal s. DMD weighs it by σ² / w per sample:

        ∇_s = P(f_ψ − f_φ) / w,  w = mean |P(s − f_φ)|, floored at 1e-5,

    with P = Aᴴ A in the measurement domain, where both sides are seen as the data see them, Ãᴴ Ã in the
    further one, or the identity. For pixel masks and Ã = A that is, weight aside, the exact gradient of the
    divergence between the laws of masked noisy images. No gradient flows through the denoisers.
    """

    Params: ClassVar[type[LossParams]] = DMDParams
    params: DMDParams

    def __init__(self, params: LossParams, objective: Objective) -> None:
        super().__init__(params, objective)
        if self.params.regression is not None:
            self.regression = Regression(self.params.regression, self)

    def generator_loss_at(self, teacher: Denoiser, fake: Denoiser, batch: DiffusedBatch) -> Tensor:
        """½ ‖∇_s‖² per sample, with gradient ∇_s with respect to P s."""
        with torch.no_grad():
            f_phi, f_psi = self.estimate(teacher, batch), self.estimate(fake, batch)
            step = self.in_loss_domain(f_psi - f_phi, batch) / per_sample(self.divisor(batch, f_phi))
        return stop_gradient_loss(self.in_loss_domain(batch.signal, batch), step)
