"""AmbientGAN: a generator that a discriminator of measurements trains alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import model_validator
from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.diffusion.augment import Augmentation
from mrigen.losses.adversary import AdversaryParams
from mrigen.losses.base import LOSSES, DiffusedBatch, DistillLoss, FakeLoss, LossParams
from mrigen.operators.corruption import Corruption


class AmbientGANParams(LossParams):
    """Constants of AmbientGAN.

    Attributes:
        adversary: the discriminator and its weights; there is no other term.
    """

    adversary: AdversaryParams = AdversaryParams(weight=1.0, fake_weight=1.0)

    @model_validator(mode="after")
    def _alone(self) -> AmbientGANParams:
        fields = {name: field.default for name, field in LossParams.model_fields.items()}
        names = [key for key, value in fields.items() if key != "adversary" and getattr(self, key) != value]
        if names:
            raise ValueError(f"there is no score to distil here: leave out {' and '.join(names)}")
        return self


@LOSSES.register("ambient-gan")
class AmbientGAN(DistillLoss):
    """The adversarial term and nothing else (AmbientGAN, Bora et al. 2018): no score, no teacher's estimate.

    The discriminator tells y of the data from A x_g + noise, see ``Adversary``, and the laws of x and x_g are
    equal where those of the measurements determine them. Of the teacher only its architecture, and what its
    objective shows of a measurement, are used: set ``init`` and ``fake_init`` to ``random`` and train the
    teacher for one step. With an ``ambient`` objective the discriminator is shown the mask. MisGAN (Li et
    al. 2019) generates masks too; where their law is known, as here, the generator of masks is that law, and
    what is left is this loss with masks shown.

    Both papers tell noiseless measurements apart. Here they are shown at the noise levels of
    ``adversary.noise``, so that the discriminator's gradients do not vanish (Wang et al. 2023,
    Diffusion-GAN); the optimum stays where it is.
    """

    Params: ClassVar[type[LossParams]] = AmbientGANParams
    uses_score: ClassVar[bool] = False

    def fake_score_loss(
        self,
        fake: Denoiser,
        x_g: Tensor,
        corruption: Corruption,
        rng: torch.Generator,
        labels: Tensor | None = None,
        *,
        by: FakeLoss = "measurement",
        augmentation: Augmentation | None = None,
    ) -> Tensor:
        """Zeros (B,): the network is the discriminator alone."""
        del fake, corruption, rng, labels, by, augmentation
        return x_g.real.new_zeros(len(x_g))

    def generator_loss_at(self, teacher: Denoiser, fake: Denoiser, batch: DiffusedBatch) -> Tensor:
        """Zeros (B,): nothing is distilled."""
        del teacher, fake
        return torch.zeros_like(batch.sigma)
