"""Sampling whole images by a teacher that knows measured pixels only (measurement score model)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mrigen.diffusion.samplers.base import SAMPLERS, Predict, Sampler, SamplerParams, Teacher


class MeasurementParams(SamplerParams):
    """Masks of a step.

    Attributes:
        masks: other masks that are drawn at every step; each costs one network evaluation.
    """

    masks: Annotated[int, Field(ge=1)] = 8


@SAMPLERS.register("measurement")
class Measurement(Sampler):
    """Heun's step with x̂ = Σ_k M_k f(M_k x, M_k) / max(Σ_k M_k, 1).

    The measurement score model (Park et al. 2025) for missing pixels: the teacher is trained on measurements
    as they are, with nothing hidden further (``further_missing: 0``), so that its estimate of what a mask
    hides means nothing and is not used; the score of an image is put together from those of random
    measurements of it. Fresh masks at every step reach every pixel in turn; one that none of them shows has
    the estimate 0. It is exact where pixels are independent, for the rest of an image tells nothing then.
    """

    Params: ClassVar[type[SamplerParams]] = MeasurementParams
    params: MeasurementParams

    def step(self, teacher: Teacher, x: Tensor, sigma: float, sigma_next: float, number: int) -> Tensor:
        """A step of the flow, both of whose estimates are through the same masks."""
        parts = teacher.masked(number, self.params.masks)
        first = (x - combined(parts, x, sigma)) / sigma
        ahead = x + (sigma_next - sigma) * first
        if sigma_next == 0:
            return ahead
        second = (ahead - combined(parts, ahead, sigma_next)) / sigma_next
        return x + (sigma_next - sigma) * (first + second) / 2

    def cost(self, *, last: bool) -> int:
        """Two per mask, one in the last step."""
        return (1 if last else 2) * self.params.masks


def combined(parts: list[tuple[Predict, Tensor]], x: Tensor, sigma: float) -> Tensor:
    """Mean of estimates (B, C, H, W) over the masks that show a pixel; 0 where none does.

    Args:
        parts: estimates through masks, and the masks.
        x: noisy images (B, C, H, W).
        sigma: their noise level.
    """
    total, shown = torch.zeros_like(x), torch.zeros_like(x.real)
    for predict, mask in parts:
        total = total + mask * predict(x, sigma)
        shown = shown + mask
    return total / shown.clamp(min=1)
