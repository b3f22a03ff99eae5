"""Score identity distillation under a corruption."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mrigen.diffusion.denoiser import Denoiser, to_channels
from mrigen.diffusion.noise import per_sample
from mrigen.distill.base import LOSSES, DistillLoss, LossParams
from mrigen.operators.base import Operator, randn_like
from mrigen.operators.corruption import Corruption


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
    P = Aᴴ A in the measurement domain or the identity in the image domain:

        d = P(f_φ − f_ψ),  r = P(f_ψ − s),  w = mean |P(s − f_φ)|, detached, floored at 1e-5.

    Sums and means run over real channels. Algorithm 6 of RSD, read literally, compares A(x_g) with
    unmasked predictions and diverges with an ambient teacher.
    """

    Params: ClassVar[type[LossParams]] = SiDParams
    params: SiDParams

    def generator(
        self,
        teacher: Denoiser,
        fake: Denoiser,
        x_g: Tensor,
        corruption: Corruption,
        generator: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Loss per sample (B,); gradients flow through both denoisers."""
        A = corruption.draw(len(x_g), generator).to(device=x_g.device)
        further = self.objective.further(A, corruption, generator)
        data = corruption.noise.draw(len(x_g), generator).to(x_g.device)
        signal = self.objective.signal(x_g, A, data, generator)
        sigma = self.params.noise.draw(len(x_g), generator).to(x_g.device)
        noise = randn_like(signal, generator)
        return self.at(teacher, fake, signal, A, further, sigma, noise, labels)

    def at(
        self,
        teacher: Denoiser,
        fake: Denoiser,
        signal: Tensor,
        A: Operator,
        further: Operator,
        sigma: Tensor,
        noise: Tensor,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The loss with all of its randomness given."""
        noisy = signal + per_sample(sigma) * noise
        f_phi = self.objective.predict(teacher, noisy, sigma, further, labels)
        f_psi = self.objective.predict(fake, noisy, sigma, further, labels)
        d = to_channels(self._judge(f_phi - f_psi, A))
        residual = to_channels(self._judge(f_psi - signal, A))
        with torch.no_grad():
            error = to_channels(self._judge(signal - f_phi, A))
            divisor = error.abs().flatten(1).mean(1).clamp(min=self.params.divisor_floor)
        form = (1 - self.params.alpha) * d.square() + d * residual
        return form.flatten(1).sum(1) / divisor
