"""The generator of one or a few steps, and what a distillation loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mrigen.denoiser import Conventions, Denoiser, NetworkDenoiser, to_channels
from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.schedules import Karras, KarrasUniform
from mrigen.losses.noisy_signal import NoisySignal
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.registry import Params, Registry
from mrigen.tensors import Sender, randn_like, sent

if TYPE_CHECKING:
    from mrigen.losses.regression import Regression

LOSSES: Registry[DistillLoss] = Registry("distillation loss", "mrigen.losses", "mrigen.losses.DistillLoss")

FakeLoss = Literal["measurement", "further"]
"""What a fake score's target shows: what A measures, or what the further mask Ã leaves of that."""


def later_levels(sigma_init: float, steps: int) -> tuple[float, ...]:
    """Noise levels of the steps after the first: EDM's grid from σ_init downwards, without its end."""
    grid = Karras(sigma_max=max(sigma_init, Karras().sigma_min))
    return tuple(grid.level(torch.arange(1, steps, dtype=torch.float64) / steps).tolist())


class Generator(nn.Module):
    """G(z) = D(σ₁ z, σ₁): a denoiser used once (SiD, Zhou et al. 2024), or a few times.

    With more levels, step k renoises and denoises: x_k = D(x_{k−1} + σ_k z_k, σ_k) with a fresh latent
    (few-step SiD, Zhou et al. 2025; DMD2, Yin et al. 2024).

    Args:
        denoiser: network in the form of its teacher.
        sigma_init: σ₁, the noise level at which the network is called first.
        later_sigmas: σ₂, σ₃, ... of further steps.
    """

    def __init__(
        self, denoiser: NetworkDenoiser, sigma_init: float = 2.5, later_sigmas: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sigmas = (sigma_init, *later_sigmas)

    def forward(
        self,
        z: Tensor,
        objective: Objective | None = None,
        further: Operator | None = None,
        labels: Tensor | None = None,
        later: Sequence[Tensor] = (),
    ) -> Tensor:
        """Images from standard normal z (B, C, H, W), real or complex.

        With ``objective`` and ``further`` the generator sees its latent as a teacher sees a noisy
        image, through Ã and told the mask (the ``sampled`` input of the released MRI code);
        without them it sees all of it (``full``), which needs no maps.

        Args:
            z: latent of the first step.
            objective: of the teacher.
            further: Ã.
            labels: class labels (B, classes), or None.
            later: latents like z of the steps after the first.

        Raises:
            ValueError: more or fewer latents than steps.
        """
        if 1 + len(later) != len(self.sigmas):
            raise ValueError(f"a generator of {len(self.sigmas)} steps needs as many latents")
        return self.until(z, objective, further, labels, later)

    def until(
        self,
        z: Tensor,
        objective: Objective | None = None,
        further: Operator | None = None,
        labels: Tensor | None = None,
        later: Sequence[Tensor] = (),
    ) -> Tensor:
        """The image after as many steps as there are latents; arguments as ``forward``."""
        image = self.step(None, z, 0, objective, further, labels)
        for number, latent in enumerate(later, start=1):
            image = self.step(image, latent, number, objective, further, labels)
        return image

    def step(
        self,
        image: Tensor | None,
        z: Tensor,
        number: int,
        objective: Objective | None = None,
        further: Operator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Step ``number`` (from 0) on the image of the step before, None at the start."""
        level = self.sigmas[number]
        sigma = torch.full((len(z),), level, device=z.device)
        noisy = level * z if image is None else image + level * z
        if objective is not None and further is not None:
            return objective.predict(self.denoiser, noisy, sigma, further, labels)
        denoised: Tensor = self.denoiser(noisy, sigma, None, labels)
        return denoised


class LossParams(Params):
    """Parameters that every distillation loss shares.

    Attributes:
        noise: distribution of the noise levels of the generator's loss.
        domain: where differences are taken: ``measurement`` applies Aᴴ A to them, ``further`` Ãᴴ Ã of the
            further mask (the released code for inpainting), ``image`` nothing (the released code for MRI).
        divisor_floor: smallest divisor of a sample's loss.
    """

    noise: KarrasUniform = KarrasUniform()
    domain: Literal["measurement", "further", "image"] = "measurement"
    divisor_floor: Annotated[float, Field(gt=0)] = 1e-5


class DistillLoss(ABC):
    """Losses of the fake score and of the generator.

    Both are used with a teacher's own objective: it says what the denoisers see of a generated image
    and what of it the data can judge.

    Attributes:
        uses_fake: whether there is a fake score to train.
        regression: a further term on pairs of latents and teacher images, or None.

    Args:
        params: the loss's constants.
        objective: the objective that the teacher was trained with.
    """

    Params: ClassVar[type[LossParams]] = LossParams
    uses_fake: ClassVar[bool] = True
    regression: Regression | None = None

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
        *,
        by: FakeLoss = "measurement",
        augmentation: Augmentation | None = None,
    ) -> Tensor:
        """Loss per sample (B,) of the fake score on generated images: the teacher's own objective.

        The images are corrupted like the data, with a fresh A and measurement noise (RSD algorithm 6,
        lines 12-14). By ``further`` they are measured by Ã, which the network looks through, itself: of
        Ambient Diffusion that is λ ‖Ñ f(Ñ(x_g + σ ε), Ã, σ) − Ñ x_g‖², N replaced by Ñ.

        Args:
            fake: f_ψ.
            x_g: generated images (B, C, H, W).
            corruption: where A and the noise come from.
            generator: of all randomness.
            labels: class labels (B, classes), or None.
            by: what the target shows.
            augmentation: transforms of the images before they are measured, which the fake score is told by
                labels; None for none.
        """
        send = Sender(x_g.device)
        A = corruption.draw(len(x_g), generator)
        x_g, augment = x_g.detach(), None
        if augmentation is not None:
            x_g, augment = augmentation(x_g, generator)
        if by == "further":
            further = send(self.objective.further(A, self.objective.corruption, generator))
            batch = corruption.measure_by(further, x_g, generator)
        else:
            batch = corruption.measure_by(send(A), x_g, generator)
            further = send(self.objective.further(A, self.objective.corruption, generator))
        batch = replace(batch, labels=labels, further=further, augment=augment)
        return self.objective(fake, batch, generator)

    def generator(
        self,
        teacher: Denoiser,
        fake: Denoiser,
        x_g: Tensor,
        corruption: Corruption,
        generator: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Loss per sample (B,) whose gradient with respect to x_g trains the generator.

        Operators, noise level and noise are drawn for ``at``.
        """
        send, drawn = Sender(x_g.device), corruption.draw(len(x_g), generator)
        A, further = send(drawn), send(self.objective.further(drawn, corruption, generator))
        data = sent(corruption.noise.draw(len(x_g), generator), x_g.device)
        signal = self.objective.signal(x_g, A, data, generator)
        sigma = sent(self.params.noise.draw(len(x_g), generator), x_g.device)
        noise = randn_like(signal, generator)
        return self.at(teacher, fake, NoisySignal(signal, A, further, sigma, noise, labels))

    @abstractmethod
    def at(self, teacher: Denoiser, fake: Denoiser, given: NoisySignal) -> Tensor:
        """The generator's loss per sample (B,) with all of its randomness given.

        Args:
            teacher: f_φ.
            fake: f_ψ, not called where ``uses_fake`` is false.
            given: generated images and what was drawn.
        """

    def estimate(self, denoiser: Denoiser, given: NoisySignal) -> Tensor:
        """What a denoiser makes of s + σ ε, seen through Ã."""
        return self.objective.predict(denoiser, given.noisy, given.sigma, given.further, given.labels)

    def judge(self, difference: Tensor, given: NoisySignal) -> Tensor:
        """P of a difference of signals, as real channels: what the loss's domain leaves of it."""
        return self.seen(difference, given.further if self.params.domain == "further" else given.operator)

    def seen(self, difference: Tensor, operator: Operator) -> Tensor:
        """What an operator shows of a difference of signals, or all of it in the image domain."""
        if self.params.domain == "image":
            return to_channels(difference)
        return to_channels(self.objective.compare(difference, operator))

    @torch.no_grad()
    def divisor(self, given: NoisySignal, f_phi: Tensor) -> Tensor:
        """Mean |P(s − f_φ)| over the real channels of each sample, floored (B,); all losses share it."""
        error = self.judge(given.signal - f_phi, given)
        return error.abs().flatten(1).mean(1).clamp(min=self.params.divisor_floor)


def follow(seen: Tensor, step: Tensor) -> Tensor:
    """½ ‖seen − sg(seen − step)‖² per sample (B,): its gradient with respect to ``seen`` is ``step``."""
    return 0.5 * (seen - (seen - step).detach()).square().flatten(1).sum(1)


def latent(
    batch: int, shape: tuple[int, int, int], conventions: Conventions, generator: torch.Generator
) -> Tensor:
    """Standard normal z (batch, *shape), complex where the images are."""
    dtype = torch.complex64 if conventions.image == "complex" else torch.float32
    return randn_like(torch.empty(batch, *shape, dtype=dtype), generator)
