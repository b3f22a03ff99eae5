"""What a corruption-aware objective is, and how distillation looks through it.

Every objective fixes which signal its denoiser models and what of it the network sees. Training,
sampling and score distillation all go through these two maps, so that a teacher is always used
under the corruption that it was trained with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mrigen.denoiser import Denoiser
from mrigen.diffusion.augment import Augmentation
from mrigen.diffusion.schedules import LogNormal, edm_weight, per_sample
from mrigen.operators.base import Operator
from mrigen.operators.corruption import Corruption
from mrigen.operators.measurements import Measurements
from mrigen.registry import Params, Registry
from mrigen.tensors import randn_like, to_device

OBJECTIVES: Registry[Objective] = Registry(
    "objective", "mrigen.diffusion.objectives", "mrigen.diffusion.objectives.Objective"
)


class ObjectiveParams(Params):
    """Parameters that every objective shares.

    Attributes:
        noise: distribution of training noise levels.
        sigma_data: σ_data of the loss weight; equals the one of the network's preconditioning.

    Examples:
        >>> import mrigen as mg
        >>> mg.objectives.OBJECTIVES.params({"name": "standard"}).sigma_data
        0.5
    """

    noise: LogNormal = LogNormal()
    sigma_data: Annotated[float, Field(gt=0)] = 0.5


class Objective(ABC):
    """A denoising loss on measurements.

    Attributes:
        conditions_on_mask: whether the denoiser is given Ã.

    Args:
        params: noise distribution, weighting and the objective's own parameters.
        corruption: the corruption of the training data.

    Raises:
        UsageError: the objective makes no sense for this corruption; says why and what does.

    Examples:
        >>> import torch
        >>> import mrigen as mg
        >>> A = mg.operators.MultiCoilMRI.example()
        >>> mask = mg.masks.exact_random(9, acceleration=2, acs_lines=1)
        >>> law = {"name": "exact-random", "acceleration": 2, "acs_lines": 1}
        >>> store = mg.TensorStore(A(A.zero_image() + 1), A.maps, mask, mask_distribution=law)
        >>> ambient = mg.objectives.OBJECTIVES.build({"name": "ambient"}, corruption=store.corruption())
        >>> rng = torch.Generator().manual_seed(0)
        >>> ambient(lambda x, sigma, *shown: x, store.measurements([0, 1]), rng).shape  # a loss per slice
        torch.Size([2])
    """

    Params: ClassVar[type[ObjectiveParams]] = ObjectiveParams
    conditions_on_mask: ClassVar[bool] = False

    def __init__(self, params: ObjectiveParams, corruption: Corruption) -> None:
        self.params = params
        self.corruption = corruption

    @abstractmethod
    def __call__(self, denoiser: Denoiser, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Loss per sample (B,): weighted squared error, averaged over real components."""

    @abstractmethod
    def signal(self, x: Tensor, operator: Operator, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """What the denoiser models of a clean image x: x itself, A x, or A x with its noise σ (B,)."""

    @abstractmethod
    def augment(self, batch: Measurements, by: Augmentation, rng: torch.Generator) -> Measurements:
        """The batch of transformed images, with the labels that tell the network.

        Raises:
            UsageError: transformed images cannot have been measured like this.
        """

    @property
    def floor(self) -> float:
        """Lowest noise level at which the denoiser is trained."""
        return 0.0

    def corrupt_further(self, operator: Operator, corruption: Corruption, rng: torch.Generator) -> Operator:
        """Ã, through which the network sees; A itself where nothing is hidden from it."""
        del corruption, rng
        return operator

    def observe(self, noisy: Tensor, further: Operator) -> Tensor:
        """What the network sees of a noisy signal."""
        del further
        return noisy

    def compare(self, difference: Tensor, operator: Operator) -> Tensor:
        """A difference of signals as far as the data can judge it (Aᴴ A of it for ambient objectives)."""
        del operator
        return difference

    def predict(
        self,
        denoiser: Denoiser,
        noisy: Tensor,
        sigma: Tensor,
        further: Operator,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The denoiser's estimate of the signal, seen through Ã."""
        A_tilde = further if self.conditions_on_mask else None
        return denoiser(self.observe(noisy, further), sigma, A_tilde, labels)

    def noised(self, batch: Measurements, sigma: Tensor, rng: torch.Generator) -> Tensor:
        """Measurements at noise level σ (B,), as the network sees them through their own A."""
        seen = batch.operator.as_image(batch.y)
        return seen + per_sample(sigma) * randn_like(seen, rng)

    def least_levels(self, sigma: Tensor) -> Tensor:
        """Noise levels below which samples with noise σ (n,) teach nothing."""
        return torch.zeros_like(sigma)

    def levels(self, batch: Measurements, rng: torch.Generator) -> Tensor:
        """Noise levels (B,) to learn at: those of the batch, or drawn."""
        if batch.levels is not None:
            return batch.levels
        return to_device(self.params.noise.draw(len(batch), rng), batch.y.device)

    def weight(self, sigma: Tensor) -> Tensor:
        """λ(σ) of EDM."""
        return edm_weight(sigma, self.params.sigma_data)


def squared_error(difference: Tensor) -> Tensor:
    """Mean of |·|² over the real components of each sample, (B,)."""
    real = torch.view_as_real(difference) if difference.is_complex() else difference
    return real.square().flatten(1).mean(1)
