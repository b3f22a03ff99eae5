"""Adversarial term of score distillation: generated images measured like the data, against the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mrigen.denoiser import NetworkDenoiser
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.schedules import KarrasUniform
from mrigen.operators.base import linear
from mrigen.operators.measurements import Measurements
from mrigen.registry import Params
from mrigen.tensors import to_device

Weight = Annotated[float, Field(gt=0)]


class AdversaryParams(Params):
    """Constants of the adversarial term.

    Attributes:
        weight: of the generator's term, beside the distillation loss per real component of an image.
        fake_weight: of the discriminator's loss, beside the fake score's.
        noise: distribution of the noise levels at which measurements are told apart.
    """

    weight: Weight = 0.05
    fake_weight: Weight = 0.3
    noise: KarrasUniform = KarrasUniform()


class Adversary:
    """Discriminator of measurements y and A x_g + noise that shares the encoder of the fake score.

    The logits are the channel means of the encoder's features, one for each position (SiDA, Zhou et al.
    2025), here of *measurements* at noise level σ, which the network sees through their own A: with y of the
    data, its A and its noise level, and y_g = A x_g + noise of a generated image measured by the same A,

        fake score:  mean softplus(−D(y)) + mean softplus(D(y_g)),
        generator:   mean softplus(−D(y_g)),

    means over the positions. No clean image is used: the laws of y and y_g are equal where those of A x and
    A x_g are.

    Args:
        params: constants.
        objective: the teacher's; says what its network sees of measurements.
    """

    def __init__(self, params: AdversaryParams, objective: Objective) -> None:
        self.params, self._objective = params, objective

    def fake_loss(
        self,
        fake: NetworkDenoiser,
        data: Measurements,
        x_g: Tensor,
        rng: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The discriminator's loss per sample (B,).

        Args:
            fake: the fake score.
            data: measurements of the training data.
            x_g: as many generated images.
            rng: of all randomness.
            labels: class labels of the generated images, or None.
        """
        real = self._logits(fake, data, rng)
        generated = self._logits(fake, self._measured(data, x_g.detach(), rng, labels), rng)
        return functional.softplus(-real).mean((1, 2)) + functional.softplus(generated).mean((1, 2))

    def generator_loss(
        self,
        fake: NetworkDenoiser,
        data: Measurements,
        x_g: Tensor,
        rng: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The generator's term per sample (B,), of the same arguments; of ``data`` only A and σ matter."""
        logits = self._logits(fake, self._measured(data, x_g, rng, labels), rng)
        components = x_g[0].numel() * (2 if x_g.is_complex() else 1)
        return self.params.weight * components * functional.softplus(-logits).mean((1, 2))

    def _measured(
        self, data: Measurements, x_g: Tensor, rng: torch.Generator, labels: Tensor | None
    ) -> Measurements:
        y = data.operator.forward(x_g)
        return replace(data, y=y + data.operator.noise(y, data.sigma, rng), labels=labels)

    def _logits(self, fake: NetworkDenoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        sigma = to_device(self.params.noise.draw(len(batch), rng), batch.y.device)
        A_tilde = linear(batch.operator) if self._objective.conditions_on_mask else None
        seen = self._objective.noised(batch, sigma, rng)
        return fake.encode(seen, sigma, A_tilde, batch.labels).mean(1)
