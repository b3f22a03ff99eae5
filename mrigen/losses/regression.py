"""Regression to the teacher's own images of some latents."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from mrigen.diffusion.samplers import SAMPLERS
from mrigen.losses.base import DistillLoss
from mrigen.operators.base import Operator
from mrigen.registry import Params


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

    def __call__(self, x_g: Tensor, target: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
        """Loss per sample (B,) of generated images against the teacher's.

        Args:
            x_g: images G(z).
            target: the teacher's samples from the same z.
            operator: of the teacher's trajectories.
            generator: for objectives whose signal is random.
        """
        still = torch.zeros(len(x_g), device=x_g.device)
        signal = self._loss.objective.signal(x_g, operator, still, generator)
        difference = self._loss.seen(signal - target, operator)
        return self.params.weight * 0.5 * difference.square().flatten(1).sum(1)
