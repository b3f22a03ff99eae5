"""The one-step generator, and what a distillation loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mrigen.conventions import Conventions, NetworkDenoiser
from mrigen.diffusion.denoiser import Denoiser
from mrigen.diffusion.noise import KarrasUniform
from mrigen.diffusion.objectives import Objective
from mrigen.operators.base import Operator, randn_like
from mrigen.operators.corruption import Corruption
from mrigen.registry import Params, Registry

LOSSES: Registry[DistillLoss] = Registry("distillation loss", "mrigen.distill")


class Generator(nn.Module):
    """G(z) = D(σ_init z, σ_init): a denoiser used once (SiD, Zhou et al. 2024).

    Args:
        denoiser: network in the form of its teacher.
        sigma_init: noise level at which the network is called.
    """

    def __init__(self, denoiser: NetworkDenoiser, sigma_init: float = 2.5) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sigma_init = sigma_init

    def forward(
        self,
        z: Tensor,
        objective: Objective | None = None,
        further: Operator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Images from standard normal z (B, C, H, W), real or complex.

        With ``objective`` and ``further`` the generator sees its latent as a teacher sees a noisy
        image, through Ã and told the mask (the ``sampled`` input of the released MRI code);
        without them it sees all of it (``full``), which needs no maps.
        """
        sigma = torch.full((len(z),), self.sigma_init, device=z.device)
        noisy = self.sigma_init * z
        if objective is not None and further is not None:
            return objective.predict(self.denoiser, noisy, sigma, further, labels)
        image: Tensor = self.denoiser(noisy, sigma, None, labels)
        return image


class LossParams(Params):
    """Parameters that every distillation loss shares.

    Attributes:
        noise: distribution of the noise levels of the generator's loss.
        domain: where differences are taken: ``measurement`` applies Aᴴ A to them, ``image`` does not
            (the released code).
    """

    noise: KarrasUniform = KarrasUniform()
    domain: Literal["measurement", "image"] = "measurement"
    divisor_floor: Annotated[float, Field(gt=0)] = 1e-5


class DistillLoss(ABC):
    """Losses of the fake score and of the generator.

    Both are used with a teacher's own objective: it says what the denoisers see of a generated image
    and what of it the data can judge.

    Args:
        params: the loss's constants.
        objective: the objective that the teacher was trained with.
    """

    Params: ClassVar[type[LossParams]] = LossParams

    def __init__(self, params: LossParams, objective: Objective) -> None:
        self.params = params
        self.objective = objective

    def fake_score(
        self,
        fake: Denoiser,
        x_g: Tensor,
        corruption: Corruption,
        generator: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Loss per sample (B,) of the fake score on generated images: the teacher's own objective.

        The images are corrupted like the data, with a fresh A and measurement noise (RSD algorithm 6,
        lines 12-14).
        """
        batch = replace(corruption.measure(x_g.detach(), generator), labels=labels)
        return self.objective(fake, batch, generator)

    @abstractmethod
    def generator(
        self,
        teacher: Denoiser,
        fake: Denoiser,
        x_g: Tensor,
        corruption: Corruption,
        generator: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Loss per sample (B,) whose gradient with respect to x_g trains the generator."""

    def _judge(self, difference: Tensor, operator: Operator) -> Tensor:
        if self.params.domain == "image":
            return difference
        return self.objective.compare(difference, operator)


def latent(
    batch: int, shape: tuple[int, int, int], conventions: Conventions, generator: torch.Generator
) -> Tensor:
    """Standard normal z (batch, *shape), complex where the images are."""
    dtype = torch.complex64 if conventions.image == "complex" else torch.float32
    return randn_like(torch.empty(batch, *shape, dtype=dtype), generator)
