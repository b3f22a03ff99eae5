"""Score distillation sampling under a corruption."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.diffusion.schedules import KarrasUniform, per_sample
from mrigen.losses.base import LOSSES, DiffusedBatch, DistillLoss, LossParams, stop_gradient_loss


class SDSParams(LossParams):
    """Constants of SDS.

    Attributes:
        noise: up to t = 980 of 1000, as published.
    """

    noise: KarrasUniform = KarrasUniform(t_max=980.0)


@LOSSES.register("sds")
class SDS(DistillLoss):
    """∇_s = P(s − f_φ) / w (Poole et al. 2022, eq. 3): the teacher's estimate is the goal.

    Their residual of noises ε_φ − ε is (s − f_φ) / σ. The weight is DMD's, so that SDS is DMD
    with the generated image itself in the place of the fake score's estimate of it: the
    ablation of the fake score (DCD, fig. 3). It seeks modes: for Gaussian data N(μ, C) the gradient
    is, on average over the noise, σ² (C + σ² I)⁻¹ (s − μ) up to the weight, so that every sample
    ends in μ.
    """

    Params: ClassVar[type[LossParams]] = SDSParams
    uses_fake: ClassVar[bool] = False

    def generator_loss_at(self, teacher: Denoiser, fake: Denoiser, batch: DiffusedBatch) -> Tensor:
        """½ ‖∇_s‖² per sample, with gradient ∇_s with respect to P s; ``fake`` is not called."""
        del fake
        with torch.no_grad():
            f_phi = self.estimate(teacher, batch)
            step = self.in_loss_domain(batch.signal - f_phi, batch) / per_sample(self.divisor(batch, f_phi))
        return stop_gradient_loss(self.in_loss_domain(batch.signal, batch), step)
