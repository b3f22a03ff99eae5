"""Base of distillation losses: what is drawn for an evaluation, and the regression term on teacher images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from mrigen.denoiser import Denoiser, to_channels
from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.objectives import Objective
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.diffusion.schedules import KarrasUniform, per_sample
from mrigen.losses.adversary import Adversary, AdversaryParams
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.registry import Params, Registry
from mrigen.tensors import DeviceCopy, randn_like, to_device

LOSSES: Registry[DistillLoss] = Registry("distillation loss", "mrigen.losses", "mrigen.losses.DistillLoss")
FakeLoss = Literal["measurement", "further"]
"""What a fake score's target shows: what A measures, or what the further mask Ã leaves of that."""


class LossParams(Params):
    """Parameters that every distillation loss shares.

    Attributes:
        noise: distribution of the noise levels of the generator's loss.
        domain: where differences are taken: ``measurement`` applies Aᴴ A to them, ``further`` Ãᴴ Ã of the
            further mask (the released code for inpainting), ``image`` nothing (the released code for MRI).
        denoising_weight: weight of ``DistillLoss.denoising_loss``, which keeps the generator's network a
            denoiser; 0 to leave it out.
        divisor_floor: smallest divisor of a sample's loss.
        adversary: constants of the adversarial term on measurements; None to leave it out.
    """

    noise: KarrasUniform = KarrasUniform()
    domain: Literal["measurement", "further", "image"] = "measurement"
    denoising_weight: Annotated[float, Field(ge=0)] = 0.0
    divisor_floor: Annotated[float, Field(gt=0)] = 1e-5
    adversary: AdversaryParams | None = None


class DistillLoss(ABC):
    """Losses of the fake score and of the generator.

    Both are used with a teacher's own objective: it says what the denoisers see of a generated image
    and what of it the data can judge.

    Attributes:
        uses_fake: whether there is a fake score to train.
        uses_score: whether it is a score; without, it is the adversary's discriminator alone.
        regression: a further term on pairs of latents and teacher images, or None.
        adversary: a further term that compares measurements of generated images with the data, or None.

    Args:
        params: the loss's constants.
        objective: the objective that the teacher was trained with.

    Examples:
        >>> import mrigen as mg
        >>> mg.losses.LOSSES.names()
        ['ambient-gan', 'dmd', 'sds', 'sid']
        >>> mg.losses.LOSSES.params({"name": "sid", "alpha": 1.2}).alpha
        1.2
    """

    Params: ClassVar[type[LossParams]] = LossParams
    uses_fake: ClassVar[bool] = True
    uses_score: ClassVar[bool] = True
    regression: Regression | None = None

    def __init__(self, params: LossParams, objective: Objective) -> None:
        self.params = params
        self.objective = objective
        self.adversary = None if params.adversary is None else Adversary(params.adversary, objective)

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
        """Loss per sample (B,) of the fake score on generated images: the teacher's own objective.

        The images are corrupted like the data, with a fresh A and measurement noise (RSD algorithm 6,
        lines 12-14). By ``further`` they are measured by Ã, which the network looks through, itself: of
        Ambient Diffusion that is λ ‖Ñ f(Ñ(x_g + σ ε), Ã, σ) − Ñ x_g‖², N replaced by Ñ.

        Args:
            fake: f_ψ.
            x_g: generated images (B, C, H, W).
            corruption: where A and the noise come from.
            rng: of all randomness.
            labels: class labels (B, classes), or None.
            by: what the target shows.
            augmentation: transforms of the images before they are measured, which the fake score is told by
                labels; None for none.
        """
        send = DeviceCopy(x_g.device)
        A = corruption.draw(len(x_g), rng)
        x_g, augment = x_g.detach(), None
        if augmentation is not None:
            x_g, augment = augmentation(x_g, rng)
        if by == "further":
            further = send(self.objective.corrupt_further(A, self.objective.corruption, rng))
            batch = corruption.measure_by(further, x_g, rng)
        else:
            batch = corruption.measure_by(send(A), x_g, rng)
            further = send(self.objective.corrupt_further(A, self.objective.corruption, rng))
        batch = replace(batch, labels=labels, further=further, augment=augment)
        return self.objective(fake, batch, rng)

    def generator_loss(
        self,
        teacher: Denoiser,
        fake: Denoiser,
        x_g: Tensor,
        corruption: Corruption,
        rng: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Loss per sample (B,) whose gradient with respect to x_g trains the generator.

        Operators, noise level and noise are drawn for ``generator_loss_at``.
        """
        batch = self._diffused(x_g, corruption, self.params.noise.draw, rng, labels)
        return self.generator_loss_at(teacher, fake, batch)

    def denoising_loss(
        self,
        teacher: Denoiser,
        generator: Denoiser,
        x_g: Tensor,
        corruption: Corruption,
        rng: torch.Generator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """λ(σ) Σ |g(s + σ ε, σ) − f_φ(s + σ ε, σ)|² per sample (B,).

        With g the generator's network, which makes images of latents of σ_init and denoises as its teacher
        does, so that it is a prior too. Levels σ are drawn as the teacher's were. None is left out: near
        σ_init an image is asked for where the input is a latent and a mean where it is a noisy image,
        though the two look alike. Both networks see s + σ ε through Ã and are compared in the whole image;
        no gradient flows to x_g. λ is EDM's weight.

        Args:
            teacher: f_φ.
            generator: g.
            x_g: generated images (B, C, H, W).
            corruption: where Ã and the noise of the data come from.
            rng: of all randomness.
            labels: class labels (B, classes), or None.
        """
        batch = self._diffused(x_g.detach(), corruption, self._trained_levels, rng, labels)
        with torch.no_grad():
            target = self.estimate(teacher, batch)
        error = to_channels(self.estimate(generator, batch) - target)
        return self.objective.weight(batch.sigma) * error.square().flatten(1).sum(1)

    def _trained_levels(self, count: int, rng: torch.Generator) -> Tensor:
        """Noise levels (count,) of the teacher's training."""
        law, floor = self.objective.params.noise, self.objective.floor
        return law.draw_above(torch.full((count,), floor), rng) if floor else law.draw(count, rng)

    def _diffused(
        self,
        x_g: Tensor,
        corruption: Corruption,
        levels: Callable[[int, torch.Generator], Tensor],
        rng: torch.Generator,
        labels: Tensor | None,
    ) -> DiffusedBatch:
        """Operators, a noise level and noise for every generated image."""
        send, drawn = DeviceCopy(x_g.device), corruption.draw(len(x_g), rng)
        A, further = send(drawn), send(self.objective.corrupt_further(drawn, corruption, rng))
        data = to_device(corruption.noise.draw(len(x_g), rng), x_g.device)
        signal = self.objective.signal(x_g, A, data, rng)
        sigma = to_device(levels(len(x_g), rng), x_g.device)
        return DiffusedBatch(signal, A, further, sigma, randn_like(signal, rng), labels)

    @abstractmethod
    def generator_loss_at(self, teacher: Denoiser, fake: Denoiser, batch: DiffusedBatch) -> Tensor:
        """The generator's loss per sample (B,) with all of its randomness given.

        Args:
            teacher: f_φ.
            fake: f_ψ, not called where ``uses_fake`` is false.
            batch: generated images and what was drawn for them.
        """

    def estimate(self, denoiser: Denoiser, batch: DiffusedBatch) -> Tensor:
        """What a denoiser makes of s + σ ε, seen through Ã."""
        return self.objective.predict(denoiser, batch.noisy, batch.sigma, batch.further, batch.labels)

    def in_loss_domain(self, difference: Tensor, batch: DiffusedBatch) -> Tensor:
        """P of a difference of signals, as real channels: what the loss's domain leaves of it."""
        return self.shown_by(difference, batch.further if self.params.domain == "further" else batch.operator)

    def shown_by(self, difference: Tensor, operator: Operator) -> Tensor:
        """What an operator shows of a difference of signals, or all of it in the image domain."""
        if self.params.domain == "image":
            return to_channels(difference)
        return to_channels(self.objective.compare(difference, operator))

    @torch.no_grad()
    def divisor(self, batch: DiffusedBatch, f_phi: Tensor) -> Tensor:
        """Mean |P(s − f_φ)| over the real channels of each sample, floored (B,); all losses share it."""
        error = self.in_loss_domain(batch.signal - f_phi, batch)
        return error.abs().flatten(1).mean(1).clamp(min=self.params.divisor_floor)


def stop_gradient_loss(signal: Tensor, step: Tensor) -> Tensor:
    """½ ‖seen − sg(seen − step)‖² per sample (B,): its gradient with respect to ``signal`` is ``step``."""
    return 0.5 * (signal - (signal - step).detach()).square().flatten(1).sum(1)


@dataclass(frozen=True, eq=False)
class DiffusedBatch:
    """What the teacher models of generated images, and the randomness of one evaluation of a loss.

    Attributes:
        signal: s, what the teacher models of the generated image; carries its gradient.
        operator: A, which says what the data can judge.
        further: Ã, through which the denoisers see.
        sigma: noise levels (B,).
        noise: standard normal ε, like ``signal``.
        labels: class labels (B, classes), or None.
    """

    signal: Tensor
    operator: Operator
    further: Operator
    sigma: Tensor
    noise: Tensor
    labels: Tensor | None = None

    @property
    def noisy(self) -> Tensor:
        """The noisy signal s + σ ε that the denoisers are asked about."""
        return self.signal + per_sample(self.sigma) * self.noise


def _deterministic(spec: dict[str, Any]) -> dict[str, Any]:
    if getattr(SAMPLERS.params(spec), "churn", 0):
        raise ValueError("pairs need a sampler without churn, whose image is a function of the latent")
    return spec


class RegressionParams(Params):
    """Constants of the regression term.

    Attributes:
        weight: λ; 0.25 in DMD.
        pairs: latents whose teacher images are computed before the first step.
        sampler: deterministic sampler of the teacher.
    """

    weight: Annotated[float, Field(gt=0)] = 0.25
    pairs: Annotated[int, Field(ge=1)] = 1000
    sampler: Annotated[dict[str, Any], AfterValidator(_deterministic)] = {"name": "heun", "steps": 18}


class Regression:
    """λ ½ Σ |P(s(G(z)) − t(z))|² per sample (Yin et al. 2024, eq. 9), t(z) the teacher's image of z.

    The squared error stands in for LPIPS, whose weights were learnt from clean images. The
    operator is the one through which the teacher saw z, so that in the measurement domain what it
    could only guess does not count.

    Args:
        params: constants.
        loss: whose domain and objective say what is compared.
    """

    def __init__(self, params: RegressionParams, loss: DistillLoss) -> None:
        self.params, self._loss = params, loss

    def __call__(self, x_g: Tensor, target: Tensor, operator: Operator, rng: torch.Generator) -> Tensor:
        """Loss per sample (B,) of generated images against the teacher's.

        Args:
            x_g: images G(z).
            target: the teacher's samples from the same z.
            operator: of the teacher's trajectories.
            rng: for objectives whose signal is random.
        """
        still = torch.zeros(len(x_g), device=x_g.device)
        signal = self._loss.objective.signal(x_g, operator, still, rng)
        difference = self._loss.shown_by(signal - target, operator)
        return self.params.weight * 0.5 * difference.square().flatten(1).sum(1)
