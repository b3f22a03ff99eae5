"""Score identity distillation under a corruption."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.losses.base import LOSSES, DiffusedBatch, DistillLoss, LossParams


class SiDParams(LossParams):
    """Constants of SiD.

    Attributes:
        alpha: α of the loss; 1.2 in SiD and RSD, 1.0 for AFHQ.
    """

    alpha: float = 1.2


@LOSSES.register("sid")
class SiD(DistillLoss):
    """Σ [(1 − α) d² + d · r] / w per sample (Zhou et al. 2024, eq. 23; RSD eq. 11).

    With s the signal of the generated image (x_g for an ambient teacher, A x_g for a teacher that
    models measurements), f_φ and f_ψ the teacher and the fake score on what they see of s + σ ε, and
    P = Aᴴ A in the measurement domain, Ãᴴ Ã in the further one or the identity in the image domain:

        d = P(f_φ − f_ψ),  r = P(f_ψ − s),  w = mean |P(s − f_φ)|, detached, floored at 1e-5.

    Sums and means run over real channels. Algorithm 6 of RSD, read literally, compares A(x_g) with
    unmasked predictions and diverges with an ambient teacher.
    """

    Params: ClassVar[type[LossParams]] = SiDParams
    params: SiDParams

    def generator_loss_at(self, teacher: Denoiser, fake: Denoiser, batch: DiffusedBatch) -> Tensor:
        """The loss; gradients flow through both denoisers."""
        f_phi, f_psi = self.estimate(teacher, batch), self.estimate(fake, batch)
        d = self.in_loss_domain(f_phi - f_psi, batch)
        residual = self.in_loss_domain(f_psi - batch.signal, batch)
        form = (1 - self.params.alpha) * d.square() + d * residual
        return form.flatten(1).sum(1) / self.divisor(batch, f_phi)
